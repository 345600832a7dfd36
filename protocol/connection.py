"""The client's end: one connection to one engine, used from one thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from . import PROTOCOL_VERSION, files, limits, messages, wire
from .endpoint import Endpoint
from .errors import ProtocolError
from .files import Fetched
from .messages import JobStatus, Welcome
from .settings import EditSettings

PATIENCE = 20.0
"""Seconds that an answer may take, where the caller names no time."""
REPEAT_AFTER = 2.0
"""Seconds after which an unanswered request is sent again: the engine drops answers to a client that does not read."""

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

Report = Callable[[int, int], None]
"""Called with how many files are there and how many there are in all; an exception raised in it ends the transfer."""


class Connection:
    """A connection to the engine at `endpoint`; `client` names this program in the engine's log.

    Every method but `close` raises `ProtocolError`. Once a connection is lost it stays so: read the endpoint file
    again and make a new one; the engine knows its jobs by their ids.
    """

    def __init__(self, endpoint: Endpoint, *, client: str = "client"):
        self._endpoint, self._client = endpoint, client
        self._requests = itertools.count(1)
        self._events: deque[JobStatus] = deque(maxlen=limits.MAX_EVENTS_KEPT)
        self._connected = False
        self._failure: ProtocolError | None = None
        self._context = zmq.Context()
        try:
            self._socket = self._context.socket(zmq.DEALER)
            self._socket.linger = 0
            self._socket.maxmsgsize = limits.MAX_PART_BYTES
            self._socket.sndhwm = self._socket.rcvhwm = limits.MAX_MESSAGES_WAITING
            self._socket.curve_serverkey = endpoint.server_key.encode()
            self._socket.curve_publickey = endpoint.client_key.encode()
            self._socket.curve_secretkey = endpoint.client_secret.encode()
            self._monitor = self._socket.get_monitor_socket(_WATCHED)
            self._socket.connect(endpoint.address)
        except (zmq.ZMQError, UnicodeEncodeError) as error:
            self._context.destroy(linger=0)
            raise ProtocolError(
                "endpoint-damaged", f"The engine's endpoint makes no sense ({error}).", "Restart the engine."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs go on without it. Harmless when repeated."""
        if not self._context.closed:
            self._socket.disable_monitor()
            self._context.destroy(linger=0)

    def hello(self, timeout: float = 5.0) -> Welcome:
        """Agree on a version, learn what the engine has, and be told of events from now on."""
        return self._ask(
            messages.Hello(client=self._client, versions=[PROTOCOL_VERSION]), messages.Welcome, timeout=timeout
        ).message

    def ping(self, timeout: float = 5.0) -> float:
        """Seconds until the engine's I/O process answers; whatever its worker does, that should be few milliseconds."""
        start = time.monotonic()
        self._ask(messages.Ping(), messages.Pong, timeout=timeout)
        return time.monotonic() - start

    def submit(
        self,
        job_id: str,
        settings: EditSettings,
        frames: Sequence[Path],
        fps: float = 24.0,
        on_sent: Report | None = None,
    ) -> JobStatus:
        """Have the PNG files `frames` edited as job `job_id` (letters, digits, `-` and `_`); returns once it is queued.

        Only frames that the engine lacks are uploaded. Repeating it is harmless: the same job is found again. What is
        refused: `bad-settings`, `over-limit`, `job-differs` (that id has other frames or settings), `queue-full`,
        `disk-full` (the engine's), `cannot-read` (a frame's file).
        """
        if len(frames) > limits.MAX_FRAMES:
            raise limits.over_limit("frames in one job", len(frames), limits.MAX_FRAMES, "Edit a shorter strip.")
        digests = [files.digest(path) for path in frames]
        paths = dict(zip(digests, frames))
        request = messages.Submit(job_id=job_id, settings=settings, frames=digests, fps=fps)
        while True:
            answer = self._ask(request, messages.Job, messages.Wanted).message
            if isinstance(answer, messages.Job):
                return answer.status
            present = len(paths) - len(answer.missing)
            for done, missing in enumerate(answer.missing, start=present):
                if on_sent:
                    on_sent(done, len(paths))
                if missing.blob not in paths:
                    raise _nonsense()
                self._upload(missing, paths[missing.blob])
            if on_sent:
                on_sent(len(paths), len(paths))

    def status(self, job_id: str) -> JobStatus:
        """How the job stands, with its notes and blobs; refused with `no-such-job`."""
        return self._ask(messages.Query(job_id=job_id), messages.Job).message.status

    def jobs(self) -> list[JobStatus]:
        """The engine's newest jobs, oldest first, without their notes and blobs."""
        return self._ask(messages.QueryAll(), messages.Jobs).message.statuses

    def cancel(self, job_id: str) -> JobStatus:
        """End the job: at once where it waits, at its next denoising step where it runs. Harmless when repeated."""
        return self._ask(messages.Cancel(job_id=job_id), messages.Job).message.status

    def events(self) -> list[JobStatus]:
        """Statuses pushed since the last call, without notes and blobs. Hints only: some may be missing. Never blocks."""
        while (packet := self._receive(until=0.0)) is not None:
            self._keep_event(packet)
        events = list(self._events)
        self._events.clear()
        return events

    def fetch(self, job_id: str, folder: Path, on_received: Report | None = None) -> Fetched:
        """Write a finished job's result below `folder`: `frames/00001.png`… and `masks/<word>/00001.png`….

        A file is there whole and verified or not at all; files that are there already are not fetched again. Refused:
        `no-such-job`, `not-done`, `no-such-blob`, `cannot-write` and `disk-full` (here).
        """
        status = self.status(job_id)
        if status.state != "done":
            raise ProtocolError(
                "not-done", f"Job {job_id} is {status.state}, so it has no result.", "Fetch it when it is done."
            )
        fetched = files.plan(status, folder)
        wanted = list(fetched.pairs(status))
        for done, (blob, path) in enumerate(wanted):
            if on_received:
                on_received(done, len(wanted))
            if not files.has(path, blob):
                files.write(path, blob, self._pieces(blob))
        if on_received:
            on_received(len(wanted), len(wanted))
        return fetched

    def shutdown(self, timeout: float = 5.0) -> None:
        """Ask the engine to end; jobs that wait or run start anew with the next one."""
        self._ask(messages.Shutdown(), messages.Stopping, timeout=timeout)

    def _upload(self, missing: messages.Missing, path: Path) -> None:
        size, offset = files.size(path), missing.offset
        while offset < size:
            chunk = files.chunk(path, offset)
            request = messages.Upload(blob=missing.blob, size=size, offset=offset)
            offset = self._ask(request, messages.Stored, buffers=[chunk]).message.received

    def _pieces(self, blob: str):
        offset, size = 0, None
        while size is None or offset < size:
            packet = self._ask(messages.Read(blob=blob, offset=offset), messages.Piece)
            piece = packet.message
            if piece.size > limits.MAX_BLOB_BYTES or len(packet.buffers) != 1 or not packet.buffers[0]:
                raise _nonsense()
            yield packet.buffers[0]
            offset, size = offset + len(packet.buffers[0]), piece.size

    def _ask(
        self, message: messages.Message, *answers: type, buffers: Sequence[bytes] = (), timeout: float = PATIENCE
    ) -> wire.Packet:
        """Send a request, again if need be, and wait for one of `answers`; a `Refusal` is raised."""
        message = msgspec.structs.replace(message, request=next(self._requests))
        parts = wire.pack(message, *buffers)
        deadline = time.monotonic() + timeout
        while (now := time.monotonic()) < deadline:
            self._send(parts)
            until = min(deadline, now + REPEAT_AFTER)
            while (packet := self._receive(until)) is not None:
                answer = packet.message
                if isinstance(answer, messages.Refusal) and answer.request in (0, message.request):
                    raise ProtocolError(answer.code, answer.sentence, answer.remedy)
                if not self._keep_event(packet) and answer.request == message.request:
                    if not isinstance(answer, answers):
                        raise _nonsense()
                    return packet
        raise self._time_out(timeout)

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
            self._events.append(packet.message.status)
            return True
        return False

    def _watch(self) -> None:
        """Learn from the socket's monitor what no message ever says: wrong keys, and nobody there."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected = True
            elif self._failure is None:
                self._failure = self._meaning(event)

    def _meaning(self, event: int) -> ProtocolError | None:
        address = self._endpoint.address
        if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return ProtocolError(
                "not-allowed", f"The engine at {address} does not know this client's key.", "Restart the engine."
            )
        if event in _BAD_KEY:
            return ProtocolError(
                "wrong-key", f"What answers at {address} is not the engine whose key is on file.", "Restart the engine."
            )
        if event in _LOST and self._connected:
            return ProtocolError(
                "connection-lost",
                "The connection to the engine was lost.",
                "Connect again, or start the engine again if it has ended; queued jobs are kept.",
            )
        if event == zmq.EVENT_CLOSED:
            return ProtocolError("no-engine", f"No engine answers at {address}.", "Start the engine.")
        return None

    def _time_out(self, timeout: float) -> ProtocolError:
        if not self._connected:
            return ProtocolError(
                "no-engine",
                f"No engine has answered at {self._endpoint.address} within {timeout:g} s.",
                "Start the engine, or restart it if it hangs.",
            )
        return ProtocolError(
            "time-out", f"The engine has not answered within {timeout:g} s.", "Try again; restart it if it hangs."
        )


def _nonsense() -> ProtocolError:
    return ProtocolError(
        "malformed",
        "The engine's answer does not fit the question.",
        "Check that the add-on and the engine come from the same release.",
    )
