"""The client's end: one connection to one engine, used from one thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from . import PROTOCOL_VERSION, files, limits, messages, wire
from .endpoint import Endpoint
from .errors import ProtocolError
from .files import Download, Fetched
from .messages import Ends, JobStatus, Welcome
from .settings import EditSettings

PATIENCE = 20.0
"""Seconds that an answer may take, where the caller names no time."""
REPEAT_AFTER = 2.0
"""Seconds after which an unanswered request is sent again: the engine drops answers to a client that does not read."""
TRANSFER_PATIENCE, TRANSFER_REPEAT_AFTER = 60.0, 10.0
"""The same for chunks, which take their time over a slow line."""
BUSY_PAUSE = 0.1
"""Seconds until a request is sent again that the engine was too busy for."""
MAX_ROUNDS = 3
"""Uploads of one job's frames, before it is said that they do not stay."""

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


@dataclass
class _Request:
    """A request on its way: what it is, how to get its chunk when it is sent, and its answer once that is there."""

    message: messages.Message
    load: Callable[[], bytes] | None = None
    parts: list = field(default_factory=list)
    deadline: float = 0.0
    due: float = 0.0
    answer: wire.Packet | None = None


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
        for _ in range(MAX_ROUNDS):
            answer = self._ask(request, messages.Job, messages.Wanted).message
            if isinstance(answer, messages.Job):
                return answer.status
            if not paths.keys() >= {missing.blob for missing in answer.missing}:
                raise _nonsense()
            self._upload(answer.missing, paths, on_sent)
        raise ProtocolError(
            "store-full", "The engine does not keep the frames that it is sent.", "Make room on the engine's disk."
        )

    def status(self, job_id: str) -> JobStatus:
        """How the job stands, with its notes and blobs; refused with `no-such-job`."""
        return self._ask(messages.Query(job_id=job_id), messages.Job).message.status

    def jobs(self) -> list[JobStatus]:
        """The engine's newest jobs, oldest first, without their notes and blobs."""
        return self._ask(messages.QueryAll(), messages.Jobs).message.statuses

    def cancel(self, job_id: str) -> JobStatus:
        """End the job: at once where it waits, at its next denoising step where it runs. Harmless when repeated."""
        return self._ask(messages.Cancel(job_id=job_id), messages.Job).message.status

    def pause(self, job_id: str) -> JobStatus:
        """Leave the job until `resume`; one that runs stops at its next denoising step. One that has ended stays so."""
        return self._ask(messages.Pause(job_id=job_id), messages.Job).message.status

    def resume(self, job_id: str) -> JobStatus:
        """Queue a paused job again; it goes on where it stopped."""
        return self._ask(messages.Resume(job_id=job_id), messages.Job).message.status

    def retry(self, job_id: str) -> JobStatus:
        """Queue a job again that failed or was cancelled, or whose result the engine no longer has."""
        return self._ask(messages.Retry(job_id=job_id), messages.Job).message.status

    def move(self, job_id: str, before: str | None = None) -> JobStatus:
        """Have a waiting job run just before another one, or last of all of this client's."""
        return self._ask(messages.Move(job_id=job_id, before=before), messages.Job).message.status

    def taken(self, job_id: str) -> JobStatus:
        """Say that the job's result is safe here; the engine keeps it until then, and for a time after that."""
        return self._ask(messages.Taken(job_id=job_id), messages.Job).message.status

    def forget(self, job_id: str) -> None:
        """End the job if need be, and have the engine drop it with its result."""
        self._ask(messages.Forget(job_id=job_id), messages.Noted)

    def when_alone(self, ends: Ends) -> None:
        """Say when a local engine shall end once no program is connected to it; refused by a remote one."""
        self._ask(messages.WhenAlone(ends=ends), messages.Noted)

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
        lacking: dict[str, list[Path]] = {}
        for blob, path in wanted:
            if not files.has(path, blob):
                lacking.setdefault(blob, []).append(path)
        there = len(wanted) - sum(map(len, lacking.values()))
        for paths in self._download(lacking):
            if on_received:
                on_received(there, len(wanted))
            there += len(paths)
        if on_received:
            on_received(len(wanted), len(wanted))
        return fetched

    def shutdown(self, timeout: float = 5.0) -> None:
        """Ask a local engine to end; jobs that wait or run go on with the next one."""
        self._ask(messages.Shutdown(), messages.Stopping, timeout=timeout)

    def _upload(self, missing: Sequence[messages.Missing], paths: dict[str, Path], on_sent: Report | None) -> None:
        done = len(paths) - len(missing)
        todo: deque[_Request] = deque()
        for wanted in missing:
            path = paths[wanted.blob]
            size = files.size(path)
            todo.extend(
                _Request(
                    messages.Upload(blob=wanted.blob, size=size, offset=offset), partial(files.chunk, path, offset)
                )
                for offset in range(wanted.offset, size, limits.CHUNK_BYTES)
            )
        if on_sent:
            on_sent(done, len(paths))
        for request, answer in self._exchange(todo, messages.Stored):
            upload = request.message
            if upload.offset + limits.CHUNK_BYTES >= upload.size and answer.message.received == upload.size:
                done += 1
                if on_sent:
                    on_sent(done, len(paths))

    def _download(self, lacking: dict[str, list[Path]]) -> Iterator[list[Path]]:
        """Fetch blobs, each into the files that want it, and yield these as they are complete.

        A blob that was cut off before goes on where it was.
        """
        todo = deque(
            _Request(messages.Read(blob=blob, offset=files.received(paths[0], blob))) for blob, paths in lacking.items()
        )
        downloads: dict[str, Download] = {}
        try:
            for request, answer in self._exchange(todo, messages.Piece):
                blob, piece = request.message.blob, answer.message
                if piece.size > limits.MAX_BLOB_BYTES or len(answer.buffers) != 1:
                    raise _nonsense()
                if blob not in downloads:
                    downloads[blob] = Download(lacking[blob][0], blob)
                    rest = range(request.message.offset + limits.CHUNK_BYTES, piece.size, limits.CHUNK_BYTES)
                    todo.extendleft(_Request(messages.Read(blob=blob, offset=at)) for at in reversed(rest))
                downloads[blob].add(request.message.offset, answer.buffers[0])
                if downloads[blob].received >= piece.size:
                    downloads.pop(blob).finish(lacking[blob])
                    yield lacking[blob]
        finally:
            for download in downloads.values():
                download.close()

    def _ask(self, message: messages.Message, *answers: type, timeout: float = PATIENCE) -> wire.Packet:
        """Send a request, again if need be, and wait for one of `answers`; a `Refusal` is raised."""
        todo = deque([_Request(message)])
        ((_, answer),) = self._exchange(todo, *answers, timeout=timeout, repeat_after=REPEAT_AFTER)
        return answer

    def _exchange(
        self,
        todo: deque[_Request],
        *answers: type,
        timeout: float = TRANSFER_PATIENCE,
        repeat_after: float = TRANSFER_REPEAT_AFTER,
    ) -> Iterator[tuple[_Request, wire.Packet]]:
        """Send the requests in `todo`, which may grow meanwhile, and yield each with its answer, in their order.

        At most a window of them is under way: this credit bounds the memory that a transfer takes on both sides.
        """
        waiting: dict[int, _Request] = {}
        while todo or waiting:
            while todo and len(waiting) < limits.TRANSFER_WINDOW:
                request = todo.popleft()
                request.message = msgspec.structs.replace(request.message, request=next(self._requests))
                request.parts = wire.pack(request.message, *([request.load()] if request.load else []))
                request.deadline = time.monotonic() + timeout
                waiting[request.message.request] = request
            oldest = next(iter(waiting.values()))
            while oldest.answer is None:
                self._send_due(waiting.values(), repeat_after)
                if time.monotonic() >= oldest.deadline:
                    raise self._time_out(timeout)
                self._take_in(waiting, answers)
            del waiting[oldest.message.request]
            yield oldest, oldest.answer

    def _send_due(self, waiting: Iterable[_Request], repeat_after: float) -> None:
        now = time.monotonic()
        for request in waiting:
            if request.answer is None and now >= request.due:
                self._send(request.parts)
                request.due = now + repeat_after

    def _take_in(self, waiting: dict[int, _Request], answers: tuple[type, ...]) -> None:
        """Take in one message, or none where one of the requests is due first."""
        until = min(min(request.due, request.deadline) for request in waiting.values() if request.answer is None)
        packet = self._receive(until)
        if packet is None or self._keep_event(packet):
            return
        answer = packet.message
        request = waiting.get(answer.request)
        if isinstance(answer, messages.Refusal) and (request or not answer.request):
            if answer.code != "busy" or request is None:
                raise ProtocolError(answer.code, answer.sentence, answer.remedy)
            request.due = time.monotonic() + BUSY_PAUSE
        elif request:
            if not isinstance(answer, answers):
                raise _nonsense()
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
            self._events.append(packet.message.status)
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


def _nonsense() -> ProtocolError:
    return ProtocolError(
        "malformed",
        "The engine's answer does not fit the question.",
        "Check that the add-on and the engine come from the same release.",
    )
