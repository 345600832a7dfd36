"""ZeroMQ sockets that are closed, whoever forgets them."""

from __future__ import annotations

import contextlib
import weakref

import zmq


class Sockets:
    """A context and its sockets, which are closed together: by `close`, or once nothing refers to `owner` any more.

    pyzmq alone would wait for ever where a forgotten owner is part of a reference cycle, as one that an exception's
    traceback holds: its context no longer knows the sockets then that it waits for.
    """

    def __init__(self, owner: object):
        self.context = zmq.Context()
        self._made: list[zmq.Socket] = []
        self._end = weakref.finalize(owner, _close, self.context, self._made, 0)
        self._end.atexit = False  # the process ends by itself, and another thread may be using them

    def make(self, kind: int) -> zmq.Socket:
        """A new socket of that kind."""
        self._made.append(self.context.socket(kind))
        return self._made[-1]

    def close(self, linger: int = 0) -> None:
        """Close all of them, after at most `linger` milliseconds for what is not sent yet. Harmless when repeated."""
        if self._end.detach():
            _close(self.context, self._made, linger)


def _close(context: zmq.Context, made: list[zmq.Socket], linger: int) -> None:
    for socket in made:
        with contextlib.suppress(zmq.ZMQError):
            socket.disable_monitor()
    context.destroy(linger=linger)
    made.clear()
