"""What the server does for its clients, in a thread of its own: the sockets' thread never waits for a disk."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

import engine
from engine.errors import EditError
from engine.models.checks import check
from protocol import PROTOCOL_VERSION, limits, messages, models, wire
from protocol.errors import ProtocolError

from .accounts import LOCAL
from .dispatch import Dispatch
from .jobs import Jobs
from .pipes import Work
from .previews import Previews
from .retention import Retention
from .store import Store
from .workers import FromWorker

TICK = 0.5
"""Seconds after which the desk looks round where nothing has happened."""
WEIGH_EVERY = 1.0
"""Seconds between two looks at the workers' memory."""
SWEEP_EVERY = 600.0
"""Seconds between two looks at what is kept."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a client asks: `client` is its connection, `owner` who it has proved to be."""

    client: bytes
    owner: str
    packet: wire.Packet


@dataclass(frozen=True)
class Answer:
    """What the `client` that asked shall hear."""

    client: bytes
    message: messages.Message
    buffers: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Announcement:
    """A job's status changed: for all connections of its owner."""

    owner: str
    status: messages.JobStatus


class Desk:
    """Meets requests one after the other. `say` takes answers, from this thread; `stop` ends the engine."""

    def __init__(
        self,
        home: Path,
        jobs: Jobs,
        dispatch: Dispatch,
        store: Store,
        retention: Retention,
        previews: Previews,
        device: str,
        say: Callable[[Answer], None],
        stop: Callable[[], None],
        set_lifetime: Callable[[messages.Ends], None],
    ):
        self._home, self._jobs, self._dispatch, self._store, self._retention = home, jobs, dispatch, store, retention
        self._previews = previews
        self._device, self._say, self._stop, self._set_lifetime = device, say, stop, set_lifetime
        self._items: queue.SimpleQueue[Request | FromWorker | None] = queue.SimpleQueue()
        self._swept = self._weighed = float("-inf")
        self.idle = False
        """Whether no job waits or runs; read by the sockets' thread."""
        self.held = (0, 0)
        """Bytes that the workers hold, of the computer's memory and of the device's; read by the sockets' thread."""

    def post(self, item: Request | FromWorker | None) -> None:
        """Hand something in, from any thread; None ends the desk."""
        self._items.put(item)

    def run(self) -> None:
        """Work until None is handed in, then end the worker."""
        try:
            while True:
                self._look_round()
                try:
                    item = self._items.get(timeout=TICK)
                except queue.Empty:
                    continue
                if item is None:
                    return
                self._take(item)
        finally:
            self._dispatch.close()

    def _take(self, item: Request | FromWorker) -> None:
        try:
            if isinstance(item, FromWorker):
                self._dispatch.receive(item)
            else:
                answer = self._answer(item)
                self._say(answer)
                if isinstance(answer.message, messages.Stopping):
                    self._stop()
        except Exception:
            log.exception("the desk failed")

    def _look_round(self) -> None:
        try:
            self._dispatch.check()
            self._dispatch.advance()
            self.idle = self._jobs.idle
            if time.monotonic() - self._weighed > WEIGH_EVERY:
                self._weighed, self.held = time.monotonic(), self._dispatch.held()
            if time.monotonic() - self._swept > SWEEP_EVERY:
                self._swept = time.monotonic()
                self._retention.sweep()
        except (ProtocolError, OSError) as error:  # a full or read-only disk: what waits goes on when it is mended
            log.warning("%s", error)
        except Exception:
            log.exception("the desk failed")

    def _answer(self, request: Request) -> Answer:
        """The answer to what a client has sent, whatever it was."""
        try:
            message, *buffers = self._met(request)
        except ProtocolError as error:
            log.debug("refused: %s", error.code, extra={"owner": request.owner})
            message, buffers = refusal(error), []
        except Exception as error:  # a fault in one request must not end the others' engine
            log.exception("a request failed", extra={"owner": request.owner})
            message, buffers = refusal(failure(error)), []
        number = request.packet.message.request
        return Answer(request.client, msgspec.structs.replace(message, request=number), tuple(buffers))

    def _met(self, request: Request) -> tuple:
        """Do what one request asks; `ProtocolError` where it is refused."""
        owner, jobs = request.owner, self._jobs
        match request.packet.message:
            case messages.Hello() as hello:
                return (self._welcome(hello),)
            case messages.Submit(settings=settings) as submit:
                self._check_model(settings.model)
                outcome = jobs.submit(_work(owner, submit))
                if isinstance(outcome, messages.JobStatus):
                    return (messages.Job(status=outcome),)
                return (messages.Wanted(missing=outcome),)
            case messages.Offer(blobs=blobs):
                return (messages.Wanted(missing=jobs.lacking(owner, blobs)),)
            case messages.Upload(blob=blob, size=size, offset=offset) if len(request.packet.buffers) == 1:
                chunk = owner, blob, size, offset, request.packet.buffers[0]
                if self._store.begins(*chunk):  # room is made for nothing that would be refused
                    self._retention.admit(owner, size)
                received = self._store.upload(*chunk)
                if received == size:
                    self._retention.count(owner, [blob])
                return (messages.Stored(blob=blob, received=received),)
            case messages.Query(job_id=job_id, preview=preview, frames_from=first):
                status = jobs.status(owner, job_id)
                if first is not None and status.state == "running":
                    status = msgspec.structs.replace(status, frames=jobs.written(owner, job_id, first))
                if preview and status.state == "running":
                    self._previews.want(request.client, owner, job_id)
                return (messages.Job(status=status),)
            case messages.QueryAll():
                return (messages.Jobs(statuses=jobs.newest(owner)),)
            case messages.Cancel(job_id=job_id):
                return (messages.Job(status=jobs.cancel(owner, job_id)),)
            case messages.Pause(job_id=job_id):
                return (messages.Job(status=jobs.pause(owner, job_id)),)
            case messages.Resume(job_id=job_id):
                return (messages.Job(status=jobs.resume(owner, job_id)),)
            case messages.Retry(job_id=job_id):
                return (messages.Job(status=jobs.retry(owner, job_id)),)
            case messages.Move(job_id=job_id, before=before):
                return (messages.Job(status=jobs.move(owner, job_id, before)),)
            case messages.Taken(job_id=job_id):
                return (messages.Job(status=jobs.taken(owner, job_id)),)
            case messages.Forget(job_id=job_id):
                jobs.forget(owner, job_id)
                return (messages.Noted(),)
            case messages.Read(blob=blob, offset=offset):
                chunk, size = self._store.chunk(owner, blob, offset)
                return messages.Piece(blob=blob, size=size, offset=offset), chunk
            case messages.WhenAlone(ends=ends):
                self._local_only(owner)
                self._set_lifetime(ends)
                return (messages.Noted(),)
            case messages.Rest():
                self._dispatch.rest()
                self._weighed = float("-inf")
                return (messages.Noted(),)
            case messages.Shutdown():
                self._local_only(owner)
                return (messages.Stopping(),)
        raise ProtocolError(
            "malformed", f"{type(request.packet.message).__name__} is not a request that can be met.",
            "Check that the add-on and the engine come from the same release.",
        )  # fmt: skip

    def _welcome(self, hello: messages.Hello) -> messages.Welcome:
        if PROTOCOL_VERSION not in hello.versions:
            raise wire.version_mismatch(client=hello.versions, engine=[PROTOCOL_VERSION])
        return messages.Welcome(
            version=PROTOCOL_VERSION,
            engine=engine.__version__,
            device=self._dispatch.device or self._device,
            models=models.known(self._home),
            from_builtin=models.from_builtin(self._home),
            limits=limits.as_dict(),
        )

    def _check_model(self, name: str) -> None:
        """Refuse a model that is not known here or cannot work, before anything is uploaded for it."""
        try:
            check(models.resolve(self._home, name))
        except EditError as error:
            raise ProtocolError(error.code, error.sentence, error.remedy) from error

    def _local_only(self, owner: str) -> None:
        if owner != LOCAL:
            raise ProtocolError(
                "not-allowed", "Only programs on the engine's own machine may ask that.", "Ask whoever runs the engine."
            )


def _work(owner: str, submit: messages.Submit) -> Work:
    return Work(
        job_id=submit.job_id,
        settings=submit.settings,
        frames=submit.frames,
        fps=submit.fps,
        owner=owner,
        task=submit.task,
        own_masks=submit.own_masks,
        project=submit.project,
        priority=submit.priority,
        tuning=submit.tuning,
    )


def refusal(error: ProtocolError) -> messages.Refusal:
    """An error as a client hears of it."""
    return messages.Refusal(code=error.code, sentence=limits.cut(error.sentence), remedy=limits.cut(error.remedy))


def failure(error: Exception) -> ProtocolError:
    """What is said of an error that nobody has foreseen; the log has all of it."""
    return ProtocolError(
        "engine-error",
        f"The engine failed to answer ({type(error).__name__}: {error}).",
        "Restart the engine, and please report this.",
    )
