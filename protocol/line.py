"""A line to one engine: an encrypted socket on which requests are sent, repeated and matched with their answers."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from . import limits, messages, wire
from .endpoint import Endpoint
from .errors import ProtocolError
from .messages import JobStatus
from .sockets import Sockets

BUSY_PAUSE = 0.1
"""Seconds until a request is sent again that the engine was too busy for."""
LOOK_UP_EVERY = 0.1
"""Seconds between two looks at what else there is to do, while answers are waited for."""

_LOST = (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED)
_BAD_KEY = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_WATCHED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)


@dataclass
class Request:
    """A request on its way: what it is, how to get its chunk when it is sent, and its answer once that is there."""

    message: messages.Message
    load: Callable[[], bytes] | None = None
    parts: list = field(default_factory=list)
    deadline: float = 0.0
    due: float = 0.0
    answer: wire.Packet | None = None


class Line:
    """Used from one thread. Every method but `close` raises `ProtocolError`; once a line is lost it stays so.

    `meanwhile` is called now and then while answers are waited for: it must not use this line, and an exception raised
    in it ends the exchange.
    """

    def __init__(self, endpoint: Endpoint, meanwhile: Callable[[], None] = lambda: None):
        self._endpoint, self._meanwhile, self._look_up = endpoint, meanwhile, 0.0
        self._requests = itertools.count(1)
        self.events: deque[JobStatus] = deque(maxlen=limits.MAX_EVENTS_KEPT)
        """Statuses that the engine has pushed and nobody has taken yet."""
        self.previews: deque[wire.Packet] = deque(maxlen=limits.MAX_PREVIEWS_KEPT)
        """The same of previews."""
        self._connected = False
        self._failure: ProtocolError | None = None
        self._sockets = Sockets(self)
        try:
            self._socket = self._sockets.make(zmq.DEALER)
            self._socket.linger = 0
            self._socket.maxmsgsize = limits.MAX_PART_BYTES
            self._socket.sndhwm = self._socket.rcvhwm = limits.MAX_MESSAGES_WAITING
            self._socket.curve_serverkey = endpoint.server_key.encode()
            self._socket.curve_publickey = endpoint.client_key.encode()
            self._socket.curve_secretkey = endpoint.client_secret.encode()
            self._monitor = self._socket.get_monitor_socket(_WATCHED)
            self._socket.connect(endpoint.address)
        except (zmq.ZMQError, UnicodeEncodeError) as error:
            self._sockets.close()
            raise ProtocolError(
                "endpoint-damaged", f"The engine's endpoint makes no sense ({error}).", "Restart the engine."
            ) from error

    def close(self) -> None:
        """Close the sockets. Harmless when repeated."""
        self._sockets.close()

    def gather(self) -> None:
        """Take in what the engine has pushed. Never blocks."""
        while (packet := self._receive(until=0.0)) is not None:
            self._keep_event(packet)

    def exchange(
        self, todo: deque[Request], *answers: type, timeout: float, repeat_after: float
    ) -> Iterator[tuple[Request, wire.Packet]]:
        """Send the requests in `todo`, which may grow meanwhile, and yield each with its answer, in their order.

        An answer that is none of `answers` is refused; a `Refusal` is raised. `timeout`: seconds that each may take;
        `repeat_after`: seconds after which it is sent again.
        At most a window of them is under way: this credit bounds the memory that a transfer takes on both sides.
        """
        waiting: dict[int, Request] = {}
        while todo or waiting:
            while todo and len(waiting) < limits.TRANSFER_WINDOW:
                request = todo.popleft()
                request.message = msgspec.structs.replace(request.message, request=next(self._requests))
                request.parts = wire.pack(request.message, *([request.load()] if request.load else []))
                request.deadline = time.monotonic() + timeout
                waiting[request.message.request] = request
            oldest = next(iter(waiting.values()))
            while oldest.answer is None:
                if time.monotonic() >= self._look_up:
                    self._meanwhile()
                    self._look_up = time.monotonic() + LOOK_UP_EVERY
                self._send_due(waiting.values(), repeat_after)
                if time.monotonic() >= oldest.deadline:
                    raise self._time_out(timeout)
                self._take_in(waiting, answers)
            del waiting[oldest.message.request]
            yield oldest, oldest.answer

    def _send_due(self, waiting: Iterable[Request], repeat_after: float) -> None:
        now = time.monotonic()
        for request in waiting:
            if request.answer is None and now >= request.due:
                self._send(request.parts)
                request.due = now + repeat_after

    def _take_in(self, waiting: dict[int, Request], answers: tuple[type, ...]) -> None:
        """Take in one message, or none where one of the requests is due first, or a look at what else there is."""
        until = min(min(request.due, request.deadline) for request in waiting.values() if request.answer is None)
        packet = self._receive(min(until, self._look_up))
        if packet is None or self._keep_event(packet):
            return
        answer = packet.message
        request = waiting.get(answer.request)
        if isinstance(answer, messages.Refusal) and (request or not answer.request):
            if answer.code != "busy" or request is None:
                raise ProtocolError(answer.code, answer.sentence, answer.remedy, refused=True)
            request.due = time.monotonic() + BUSY_PAUSE
        elif request:
            if not isinstance(answer, answers):
                raise nonsense()
            request.answer, request.parts = packet, []

    def _send(self, parts: list) -> None:
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            pass  # the queue is full of earlier attempts: wait for the answer to one of them

    def _receive(self, until: float) -> wire.Packet | None:
        """The next message, or None where none has come until the moment `until` (of `time.monotonic`)."""
        while True:
            self._watch()
            if self._socket.poll(0):
                return wire.unpack(self._socket.recv_multipart(), sender="engine")
            if self._failure:
                raise self._failure
            wait = until - time.monotonic()
            if wait <= 0:
                return None
            zmq.select([self._socket, self._monitor], [], [], wait)

    def _keep_event(self, packet: wire.Packet) -> bool:
        if isinstance(packet.message, messages.Event):
            self.events.append(packet.message.status)
            return True
        if isinstance(packet.message, messages.Preview):
            self.previews.append(packet)
            return True
        return False

    def _watch(self) -> None:
        """Learn from the socket's monitor what no message ever says: wrong keys, and nobody there."""
        while self._monitor.poll(0):
            told = recv_monitor_message(self._monitor)
            if told["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected = True
            elif self._failure is None:
                self._failure = self._meaning(told["event"], told["value"])

    def _meaning(self, event: int, value: int) -> ProtocolError | None:
        address, remote = self._endpoint.address, self._endpoint.remote
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and value == wire.STATUS_TOO_MANY:
            return ProtocolError(
                "too-many-connections",
                f"The engine at {address} has as many connections as it takes.",
                "Close a program that uses it, and try again.",
            )
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return ProtocolError(
                "not-allowed",
                f"The engine at {address} does not know this client's key.",
                "Have this client's key added on the engine's machine: `python -m engine keys add NAME KEY`."
                if remote
                else "Restart the engine.",
            )
        if event in _BAD_KEY:
            return ProtocolError(
                "wrong-key",
                f"What answers at {address} is not the engine whose key is on file.",
                "Compare the engine's key here with what `python -m engine keys` prints on its machine."
                if remote
                else "Restart the engine.",
            )
        if event in _LOST and self._connected:
            return ProtocolError(
                "connection-lost",
                "The connection to the engine was lost.",
                "Connect again, or start the engine again if it has ended; queued jobs are kept.",
            )
        if event == zmq.EVENT_CLOSED:
            return ProtocolError("no-engine", f"No engine answers at {address}.", self._unreachable())
        return None

    def _unreachable(self) -> str:
        if self._endpoint.remote:
            return "Check the address, that the engine runs there with --listen, and that its port is open."
        return "Start the engine, or restart it if it hangs."

    def _time_out(self, timeout: float) -> ProtocolError:
        if not self._connected:
            return ProtocolError(
                "no-engine",
                f"No engine has answered at {self._endpoint.address} within {timeout:g} s.",
                self._unreachable(),
            )
        return ProtocolError(
            "time-out", f"The engine has not answered within {timeout:g} s.", "Try again; restart it if it hangs."
        )


def nonsense() -> ProtocolError:
    """What is said of an engine that answers something else than it was asked."""
    return ProtocolError(
        "malformed",
        "The engine's answer does not fit the question.",
        "Check that the add-on and the engine come from the same release.",
    )
