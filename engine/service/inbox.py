"""How threads and signals wake the server's loop on every platform: a queue beside a socket that can be polled."""

from __future__ import annotations

import contextlib
import queue
import socket


class Inbox:
    """A queue that any thread may post to and that one loop polls by `reader`."""

    def __init__(self):
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self._items: queue.SimpleQueue = queue.SimpleQueue()

    def post(self, item) -> None:
        """Add `item` and wake the loop; harmless once the inbox is closed."""
        self._items.put(item)
        with contextlib.suppress(OSError):  # full: the loop wakes anyway
            self.writer.send(b"\0")

    @property
    def waiting(self) -> bool:
        """Whether there is an item."""
        return not self._items.empty()

    def drain(self) -> list:
        """All items that are there."""
        with contextlib.suppress(BlockingIOError):
            while self.reader.recv(4096):
                pass
        items = []
        with contextlib.suppress(queue.Empty):
            while True:
                items.append(self._items.get_nowait())
        return items

    def close(self) -> None:
        """Close the sockets."""
        self.reader.close()
        self.writer.close()
