"""The jobs of one engine: accepted into the journal, given to the worker one at a time, asked for and cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import Failure, JobStatus, Missing
from protocol.settings import SettingsError, check

from . import pipes
from .journal import Journal
from .retention import Retention
from .store import Store, cannot_store
from .workers import FromWorker, Worker

_TOO_EARLY = 0.02
"""Fraction of a job below which nothing is said about the time that is left."""
_OUT_OF_MEMORY = ("memory", "out-of-memory")
_SIGKILL = -9
"""How a worker ends that the system kills for its memory."""

log = logging.getLogger(__name__)


@dataclass
class _Run:
    """The job that the worker has, and how its tries have gone."""

    work: pipes.Work
    status: JobStatus
    began: tuple[float, float] = (0.0, 0.0)
    """Moment (of `time.monotonic`) and fraction at which its steps began."""
    heard: float = field(default_factory=time.monotonic)
    """When the worker last said something."""
    furthest: float = -1.0
    """Fraction at which the last try ended without a word; another one must come further, or there is no third."""
    notes: list[str] = field(default_factory=list)
    forgotten: bool = False
    """Nobody wants to hear of it any more: it only has to stop."""

    @property
    def key(self) -> tuple[str, str]:
        return self.work.owner, self.work.job_id


class Jobs:
    """Schedules the journal's jobs; `announce` is told of every change of a status, and `show` given previews, with their
    owner. Not for several threads."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        retention: Retention,
        start_worker: Callable[[], Worker],
        announce: Callable[[str, JobStatus], None],
        show: Callable[[str, pipes.Previewed], None],
        step_limit: float,
    ):
        self._journal, self._store, self._retention = journal, store, retention
        self._start_worker, self._announce, self._step_limit = start_worker, announce, step_limit
        self._show = show
        self._worker: Worker | None = None
        self._run: _Run | None = None
        self._served: list[str] = []
        """Owners whose jobs have run, the latest last."""
        self._unsaved: dict[tuple[str, str], JobStatus] = {}
        self.device: str | None = None
        """What the worker computes on, once it has loaded a model."""

    @property
    def idle(self) -> bool:
        """Whether no job waits or runs."""
        return self._run is None and not self._journal.owners_waiting()

    def submit(self, work: pipes.Work) -> JobStatus | list[Missing]:
        """Queue a job, or find it again; or the blobs that must be uploaded first. `ProtocolError` if it is refused."""
        if self._journal.status(work.owner, work.job_id):
            if self._journal.work(work.owner, work.job_id) != work:
                raise ProtocolError(
                    "job-differs", f"There is a job {work.job_id} with other frames or settings.", "Use a new job id."
                )
            return self.status(work.owner, work.job_id)
        self._check(work)
        if missing := self._store.missing(work.owner, work.blobs):
            self._ready_worker()  # it loads its modules during the upload
            return missing
        self._journal.add(work)
        log.info("job accepted", extra={"job": work.job_id, "owner": work.owner, "frames": len(work.frames)})
        log.debug("job asks", extra={"source": work.settings.source, "target": work.settings.target})
        self._tell(work.owner, work.job_id)
        self.advance()
        return self.status(work.owner, work.job_id)

    def status(self, owner: str, job_id: str) -> JobStatus:
        """How the job stands; refused with `no-such-job`, also where it is another owner's."""
        if self._runs(owner, job_id):
            return self._run.status
        status = self._noted(owner, job_id)
        if status is None:
            raise ProtocolError("no-such-job", f"The engine knows no job {job_id}.", "Submit it again.")
        if status.state == "queued":
            status = msgspec.structs.replace(status, ahead=self._journal.queued(owner).index(job_id))
        return status

    def newest(self, owner: str) -> list[JobStatus]:
        """The owner's newest jobs, oldest first, in brief."""
        return [self.status(owner, job_id).brief() for job_id in self._journal.newest(owner, limits.MAX_JOBS_LISTED)]

    def cancel(self, owner: str, job_id: str) -> JobStatus:
        """End a job, at its next denoising step if it runs; one that has ended stays as it is."""
        status = self.status(owner, job_id)
        return status if status.final else self._leave(owner, job_id, "cancelled")

    def pause(self, owner: str, job_id: str) -> JobStatus:
        """Leave a job until it is resumed; one that runs stops at its next denoising step."""
        status = self.status(owner, job_id)
        return self._leave(owner, job_id, "paused") if self._noted(owner, job_id).state == "queued" else status

    def resume(self, owner: str, job_id: str) -> JobStatus:
        """Queue a paused job again, also one that is still about to pause."""
        status = self.status(owner, job_id)
        return self._queue(owner, job_id) if self._noted(owner, job_id).state == "paused" else status

    def retry(self, owner: str, job_id: str) -> JobStatus:
        """Queue a job again that failed or was cancelled, or whose result is not there any more."""
        status = self.status(owner, job_id)
        ended = self._noted(owner, job_id).state in ("failed", "cancelled")
        if not ended and not self._store.missing(owner, status.blobs):
            return status
        work = self._journal.work(owner, job_id)
        if work is None or self._store.missing(owner, work.blobs):
            raise ProtocolError("no-such-blob", "The engine no longer has the job's frames.", "Run the edit again.")
        return self._queue(owner, job_id)

    def move(self, owner: str, job_id: str, before: str | None) -> JobStatus:
        """Have a waiting job run before another one, or last of all of its owner's."""
        status = self.status(owner, job_id)
        if before is not None:
            self.status(owner, before)
        if status.state == "queued" and before != job_id:
            self._journal.move(owner, job_id, before)
            for other in self._journal.queued(owner):
                self._tell(owner, other)
        return self.status(owner, job_id)

    def taken(self, owner: str, job_id: str) -> JobStatus:
        """The client has the result."""
        status = self.status(owner, job_id)
        if status.state != "done":
            raise ProtocolError("not-done", f"Job {job_id} is {status.state}, so it has no result.")
        if not status.taken:
            status = msgspec.structs.replace(status, taken=True)
            self._journal.set(owner, status)
        return status

    def forget(self, owner: str, job_id: str) -> None:
        """Drop a job and its result; harmless where there is none."""
        if self._journal.status(owner, job_id) is None:
            return
        if not self.cancel(owner, job_id).final:
            self._run.forgotten = True
        self._unsaved.pop((owner, job_id), None)
        self._journal.remove(owner, job_id)
        self._retention.drop_checkpoint(owner, job_id)

    def advance(self) -> None:
        """Give the worker the next job, if it has none."""
        if self._run or not self._save():
            return
        while (key := self._next()) is not None:
            work = self._journal.work(*key)
            if work:
                break
            error = Failure("unreadable", "This job was noted by an engine of another make.", "Submit it again.")
            self._journal.set(key[0], JobStatus(job_id=key[1], state="failed", error=error))
            self._tell(*key)
        else:
            return
        self._run = _Run(work, JobStatus(job_id=work.job_id, task=work.task, state="running"))
        self._served = [owner for owner in self._served if owner != work.owner] + [work.owner]
        self._start()

    def check(self) -> None:
        """Replace a worker that has not said anything for longer than a step may take."""
        if self._run and time.monotonic() - self._run.heard > self._step_limit:
            log.error("worker hangs", extra={"worker": self._worker.pid, "job": self._run.work.job_id})
            self._worker.kill()
            self._worker_ended("did not finish a step within the limit and was ended")

    def receive(self, received: FromWorker) -> None:
        """Take in what a worker says."""
        if received.worker is not self._worker:
            return
        if self._run:
            self._run.heard = time.monotonic()
        match received.message:
            case None:
                self._worker_ended()
            case pipes.Ready(device=device):
                self.device = device
            case pipes.Reported() as report:
                self._report(report)
            case pipes.Previewed() as preview if self._run and not self._run.forgotten:
                self._show(self._run.work.owner, preview)
            case pipes.Finished() as result:
                self._end(
                    state="done",
                    fraction=1.0,
                    notes=[limits.cut(note) for note in [*self._run.notes, *result.notes][: limits.MAX_NOTES]],
                    frames=result.frames,
                    masks=result.masks,
                    timings=result.timings,
                    words=result.words,
                    soft_masks=result.soft_masks,
                    packs=result.packs,
                )
            case pipes.Failed() as failed if failed.code in _OUT_OF_MEMORY and self._may_try_again():
                self._replace_worker()
                self._try_again(f"{limits.cut(failed.sentence)} It was tried again with less at a time.")
            case pipes.Failed() as failed:
                self._fail(failed.code, limits.cut(failed.sentence), limits.cut(failed.remedy))
            case pipes.Stopped():
                self._stopped()
        self.advance()

    def close(self) -> None:
        """End the worker; its job goes on with the next engine."""
        if self._worker:
            self._worker.end()

    def _runs(self, owner: str, job_id: str) -> bool:
        return self._run is not None and self._run.key == (owner, job_id) and not self._run.forgotten

    def _noted(self, owner: str, job_id: str) -> JobStatus | None:
        """How a job stands apart from its running: a running one is noted as `queued`, or as what it shall be next."""
        return self._unsaved.get((owner, job_id)) or self._journal.status(owner, job_id)

    def _leave(self, owner: str, job_id: str, state: str) -> JobStatus:
        """Note that a job is cancelled or paused; a running one is told to stop, and ends so even if the engine ends
        before it has."""
        status = JobStatus(job_id=job_id, task=self.status(owner, job_id).task, state=state)
        self._journal.set(owner, status)
        if self._runs(owner, job_id):
            self._worker.send(pipes.Stop(job_id=job_id))
        else:
            self._left(owner, status)
        return self.status(owner, job_id)

    def _left(self, owner: str, status: JobStatus) -> None:
        if status.state == "cancelled":
            self._retention.drop_checkpoint(owner, status.job_id)
        log.info("job %s", status.state, extra={"job": status.job_id, "owner": owner})
        self._tell(owner, status.job_id)

    def _queue(self, owner: str, job_id: str) -> JobStatus:
        task = self.status(owner, job_id).task
        self._unsaved.pop((owner, job_id), None)
        self._journal.set(owner, JobStatus(job_id=job_id, task=task, state="queued"))
        self._tell(owner, job_id)
        self.advance()
        return self.status(owner, job_id)

    def _next(self) -> tuple[str, str] | None:
        """The first job of the owner who was served longest ago."""
        waiting = self._journal.owners_waiting()
        if not waiting:
            return None
        owner = min(waiting, key=lambda name: self._served.index(name) if name in self._served else -1)
        return owner, self._journal.queued(owner)[0]

    def _start(self) -> None:
        """Have the worker do the job, from its last checkpoint on if it has one."""
        run = self._run
        run.heard = time.monotonic()
        run.began = (run.heard, 0.0)
        try:
            self._ready_worker().send(run.work)
        except ProtocolError as error:
            self._fail(error.code, error.sentence, error.remedy)
            return
        log.info("job started", extra={"job": run.work.job_id, "owner": run.work.owner, "worker": self._worker.pid})
        self._tell(*run.key)

    def _ready_worker(self) -> Worker:
        """The worker, started if there is none; `ProtocolError` where it cannot be."""
        try:
            self._worker = self._worker or self._start_worker()
        except OSError as error:
            raise cannot_store(error) from error
        return self._worker

    def _check(self, work: pipes.Work) -> None:
        for what, value, most, remedy in (
            ("frames in one job", len(work.frames), limits.MAX_FRAMES, "Edit a shorter strip."),
            ("mask words", len(work.settings.mask_words), limits.MAX_MASK_WORDS, "Ask for fewer masks."),
            (
                "bytes of settings",
                len(msgspec.msgpack.encode(work.settings)),
                limits.MAX_SETTINGS_BYTES,
                "Shorten the prompts.",
            ),
        ):
            if value > most:
                raise limits.over_limit(what, value, most, remedy)
        try:
            check(work.settings)
        except SettingsError as error:
            raise ProtocolError("bad-settings", str(error)) from error
        if len(work.own_masks) != (len(work.frames) if work.settings.own_mask else 0):
            raise ProtocolError(
                "bad-settings",
                f"own_mask is '{work.settings.own_mask}', and there are {len(work.own_masks)} masks for "
                f"{len(work.frames)} frames.",
                "Give one mask a frame, or none and an empty own_mask.",
            )
        for owner, most in ((work.owner, limits.MAX_CLIENT_JOBS), (None, limits.MAX_QUEUED_JOBS)):
            if self._journal.count(owner) >= most:
                raise ProtocolError(
                    "queue-full", f"{most} jobs are waiting already.", "Wait for one to finish, or cancel one."
                )

    def _report(self, report: pipes.Reported) -> None:
        run, now = self._run, time.monotonic()
        if report.stage in ("read", "load") or run.status.stage in ("", "read", "load"):
            run.began = (now, report.fraction)  # reading and loading say nothing about the steps to come
        since, base = run.began
        done = report.fraction - base
        run.status = JobStatus(
            job_id=report.job_id,
            task=run.work.task,
            state="running",
            stage=report.stage,
            step=report.step,
            steps=report.steps,
            fraction=report.fraction,
            seconds_left=(now - since) * (1 - report.fraction) / done if done > _TOO_EARLY else None,
        )
        if not run.forgotten:
            self._tell(*run.key)

    def _stopped(self) -> None:
        """The running job has stopped: it was cancelled, paused, or paused and resumed."""
        run, self._run = self._run, None
        if not run.forgotten and (noted := self._noted(*run.key)) is not None:
            self._left(run.work.owner, noted)

    def _end(self, **fields) -> None:
        """Note that the running job has ended, unless it was cancelled meanwhile."""
        owner, job_id = self._run.key
        if self._run.forgotten or self._noted(owner, job_id).state == "cancelled":
            self._stopped()
            return
        task, self._run = self._run.work.task, None
        status = self._unsaved[owner, job_id] = JobStatus(job_id=job_id, task=task, **fields)
        self._retention.count(owner, status.blobs)
        self._save()
        if status.state == "done":
            self._retention.drop_checkpoint(owner, job_id)
        code = status.error.code if status.error else None
        log.info("job %s", status.state, extra={"job": job_id, "owner": owner, "code": code})
        self._announce(owner, status.brief())

    def _fail(self, code: str, sentence: str, remedy: str) -> None:
        self._end(state="failed", error=Failure(code, sentence, remedy))

    def _save(self) -> bool:
        """Write to the journal how jobs have ended; False while the disk is too full for that."""
        try:
            for (owner, job_id), status in list(self._unsaved.items()):
                self._journal.set(owner, status)
                del self._unsaved[owner, job_id]
        except ProtocolError as error:
            log.warning("%s", error)
        return not self._unsaved

    def _worker_ended(self, how: str = "") -> None:
        code = self._replace_worker()
        how = how or (f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")
        if not self._run:
            return
        if self._run.forgotten or self._noted(*self._run.key).state != "queued":
            self._stopped()
        elif self._may_try_again():
            self._try_again(f"The engine's worker process {how}; the edit went on from its last step.", code)
        else:
            self._fail(
                "worker-died",
                f"The engine's worker process {how} during the edit, twice at the same place.",
                "If memory ran out, use fewer or smaller frames; the engine's logs/worker.log may say more.",
            )

    def _replace_worker(self) -> int:
        worker, self._worker = self._worker, None
        code = worker.end()
        self._store.sweep("result-*")
        log.warning("worker ended", extra={"worker": worker.pid, "code": code})
        return code

    def _may_try_again(self) -> bool:
        """Whether this try came further than the one before it: a job is retried once from each checkpoint."""
        return self._run.status.fraction > self._run.furthest

    def _try_again(self, note: str, code: int = _SIGKILL) -> None:
        run = self._run
        run.furthest = run.status.fraction
        run.notes = [*run.notes, note][-3:]
        if code == _SIGKILL:
            run.work = msgspec.structs.replace(run.work, memory_share=run.work.memory_share / 2)
        run.status = JobStatus(job_id=run.work.job_id, task=run.work.task, state="running")
        self._start()

    def _tell(self, owner: str, job_id: str) -> None:
        self._announce(owner, self.status(owner, job_id).brief())
