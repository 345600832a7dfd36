"""The engine's one door: an encrypted socket, who may pass, and how much may be under way."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

import msgspec
import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from protocol import limits, messages, wire
from protocol.errors import ProtocolError
from protocol.keys import KeyPair
from protocol.sockets import Sockets

from .accounts import Accounts
from .desk import Announcement, Answer, Request, refusal
from .previews import Hint

LOOPBACK = "tcp://127.0.0.1"
ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"engine"
HANDSHAKE_MILLISECONDS = 5000
LINGER_MILLISECONDS = 500
"""How long the last answers may take to leave when the server ends."""
MESSAGES_AT_A_TIME = 32
"""From clients, before anything else is looked at."""
SMALL_HEADER_BYTES = limits.KIB
"""That cost nothing: plain questions still pass where transfers fill what may wait."""
_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED

log = logging.getLogger(__name__)


class Gateway:
    """Takes in requests under CURVE, answers pings at once, with the memory that is `held`, and hands all others to
    `hand_in`. For one thread.

    Bound to a free port of the loopback, and to `listen` (`HOST:PORT`) where that is given.
    """

    def __init__(
        self,
        accounts: Accounts,
        server: KeyPair,
        listen: str | None,
        hand_in: Callable[[Request], None],
        held: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ):
        self._accounts, self._server, self._hand_in, self._held = accounts, server, hand_in, held
        self._open: dict[int, float] = {}
        """Connections by descriptor, and when they were accepted."""
        self._greeted: list[float] = []
        """When handshakes have succeeded lately."""
        self._clients: dict[bytes, str] = {}
        """Owners of the connections that said hello, by routing id: they are told of events."""
        self._unanswered: Counter[bytes] = Counter()
        self._waiting_bytes = 0
        self._costs: dict[tuple[bytes, int], int] = {}
        try:
            self._listen(f"{LOOPBACK}:0", f"tcp://{listen}" if listen else None)
        except zmq.ZMQError as error:
            self.close()
            raise ProtocolError(
                "cannot-listen", f"The engine cannot listen at {listen or LOOPBACK} ({error.strerror}).",
                "Choose another address or port for --listen.",
            ) from error  # fmt: skip

    @property
    def sockets(self) -> tuple[zmq.Socket, ...]:
        """What to poll before `serve`."""
        return self._zap, self._monitor, self._socket

    @property
    def company(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._open)

    def close(self) -> None:
        """Close the sockets; harmless when repeated."""
        self._sockets.close(LINGER_MILLISECONDS)

    def reset(self) -> None:
        """Cut all connections and free what they hold; clients connect again at the same addresses."""
        addresses = self.addresses
        self._sockets.close()  # a socket alone would let go of its addresses at a later time of its own
        for record in (self._open, self._greeted, self._clients, self._unanswered, self._costs):
            record.clear()
        self._waiting_bytes = 0
        self._listen(*addresses)

    def serve(self) -> None:
        """Do what has come in at the sockets, a few messages at most."""
        while self._monitor.poll(0):
            self._note(recv_monitor_message(self._monitor))
        while self._zap.poll(0):
            self._zap.send_multipart(self._judge(self._zap.recv_multipart()))
        for _ in range(MESSAGES_AT_A_TIME):
            try:
                client, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._take(client.bytes, frames)

    def send(self, item: Answer | Announcement | Hint) -> None:
        """Let an answer, a job's status or a hint leave."""
        if isinstance(item, Hint):
            self._send(item.client, item.message, *item.buffers)
            return
        if isinstance(item, Announcement):
            for client, owner in list(self._clients.items()):
                if owner == item.owner:
                    self._send(client, messages.Event(status=item.status))
            return
        self._waiting_bytes -= self._costs.pop((item.client, item.message.request), 0)
        self._unanswered[item.client] -= 1
        if self._unanswered[item.client] <= 0:
            del self._unanswered[item.client]
        self._send(item.client, item.message, *item.buffers)

    def _listen(self, local: str, public: str | None) -> None:
        self._sockets = Sockets(self)
        self._zap = self._sockets.make(zmq.REP)
        self._zap.bind(ZAP_ADDRESS)
        socket = self._socket = self._sockets.make(zmq.ROUTER)
        socket.router_mandatory = True
        socket.maxmsgsize = limits.MAX_PART_BYTES
        socket.sndhwm = socket.rcvhwm = limits.MAX_MESSAGES_WAITING
        socket.handshake_ivl = HANDSHAKE_MILLISECONDS
        socket.heartbeat_ivl = 10_000  # a peer whose cable was cut does not count as company for ever
        socket.heartbeat_timeout = 60_000
        socket.zap_domain = ZAP_DOMAIN
        socket.zap_enforce_domain = True  # without an authenticator nobody is let in, instead of everybody
        socket.curve_server = True
        socket.curve_secretkey = self._server.secret.encode()
        self._monitor = socket.get_monitor_socket(_WATCHED)
        addresses = []
        for address in filter(None, (local, public)):
            socket.bind(address)
            addresses.append(socket.last_endpoint.decode().rstrip("\0"))
        self.addresses = tuple(addresses) if public else (addresses[0], None)
        """Where it listens: on the loopback, and for other machines (None: it does not)."""

    def _note(self, told: dict) -> None:
        now = time.monotonic()
        match told["event"]:
            case zmq.EVENT_ACCEPTED:
                self._open[told["value"]] = now
            case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._greeted = [at for at in self._greeted if now - at < HANDSHAKE_MILLISECONDS / 1000] + [now]
            case zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED:
                self._open.pop(told["value"], None)
                if not self._open:
                    self._greeted.clear()

    def _connections(self) -> int:
        """How many clients are connected: who has not proved a key is cut off after the handshake's time."""
        settled = time.monotonic() - HANDSHAKE_MILLISECONDS / 1000
        return sum(at < settled for at in self._open.values()) + sum(at >= settled for at in self._greeted)

    def _judge(self, request: list[bytes]) -> list[bytes]:
        """Whether a client may connect, by its key (ZeroMQ's authentication protocol, RFC 27)."""
        version, number, *_, key = request
        owner = self._accounts.owner(z85.encode(key).decode())
        status = wire.STATUS_UNKNOWN_KEY if owner is None else wire.STATUS_ALLOWED
        if owner is not None and self._connections() >= limits.MAX_CONNECTIONS:
            status = wire.STATUS_TOO_MANY
        if status != wire.STATUS_ALLOWED:
            log.warning("connection refused", extra={"status": status, "owner": owner})
        return [version, number, str(status).encode(), b"", (owner or "").encode(), b""]

    def _take(self, client: bytes, frames: list[zmq.Frame]) -> None:
        """One message: answered here where it is no request that can be met, or a ping."""
        number = 0
        try:
            owner = frames[0].get("User-Id") if frames else ""
            if not owner or not self._accounts.allows(owner):
                raise ProtocolError(
                    "not-allowed", "The engine no longer knows this client's key.", "Have it added again."
                )
            packet = wire.unpack([frame.buffer for frame in frames], sender="client")
            number = packet.message.request
            if isinstance(packet.message, messages.Ping):
                memory, device_memory = self._held()
                self._send(client, messages.Pong(request=number, memory=memory, device_memory=device_memory))
                return
            self._admit(client, packet, len(frames[0]))
        except ProtocolError as error:
            self._send(client, msgspec.structs.replace(refusal(error), request=number))
            return
        if isinstance(packet.message, messages.Hello):
            self._clients.pop(client, None)
            while len(self._clients) >= limits.MAX_CONNECTIONS:  # those that are gone have not been noticed yet
                del self._clients[next(iter(self._clients))]
            self._clients[client] = owner
        self._hand_in(Request(client, owner, packet))

    def _admit(self, client: bytes, packet: wire.Packet, header: int) -> None:
        """Count a request in, whose header has so many bytes; refused with `busy` where too much is under way already."""
        reads = limits.CHUNK_BYTES if isinstance(packet.message, messages.Read) else 0
        cost = reads + max(0, header - SMALL_HEADER_BYTES) + sum(len(buffer) for buffer in packet.buffers)
        key = (client, packet.message.request)
        if (
            self._unanswered[client] >= limits.MAX_UNANSWERED
            or self._waiting_bytes + cost > limits.MAX_WAITING_BYTES
            or key in self._costs
        ):
            raise ProtocolError("busy", "The engine has not answered all earlier requests yet.", "Wait a moment.")
        self._unanswered[client] += 1
        self._costs[key] = cost
        self._waiting_bytes += cost

    def _send(self, client: bytes, message: messages.Message, *buffers: bytes) -> None:
        try:
            self._socket.send_multipart([client, *wire.pack(message, *buffers)], zmq.NOBLOCK)
        except zmq.Again:
            pass  # a client that does not read loses hints, and asks again for answers
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._clients.pop(client, None)
