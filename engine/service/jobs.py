"""The jobs of one engine: accepted into the journal, given to the worker one at a time, asked for and cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import Failure, JobStatus, Missing
from protocol.settings import SettingsError, check

from . import pipes
from .journal import Journal
from .store import Store, cannot_store
from .workers import FromWorker, Worker

_TOO_EARLY = 0.02
"""Fraction of a job below which nothing is said about the time that is left."""

log = logging.getLogger(__name__)


class Jobs:
    """Schedules the journal's jobs; `announce` is told of every change of a status. Not for several threads."""

    def __init__(
        self,
        journal: Journal,
        store: Store,
        start_worker: Callable[[], Worker],
        announce: Callable[[JobStatus], None],
    ):
        self._journal, self._store, self._start_worker, self._announce = journal, store, start_worker, announce
        self._worker: Worker | None = None
        self._running: JobStatus | None = None
        self._started = 0.0
        self._unsaved: dict[str, JobStatus] = {}
        self.device: str | None = None
        """What the worker computes on, once it has loaded a model."""

    def submit(self, work: pipes.Work) -> JobStatus | list[Missing]:
        """Queue a job, or find it again; or the blobs that must be uploaded first. `ProtocolError` if it is refused."""
        known = self._journal.work(work.job_id)
        if known == work:
            return self.status(work.job_id)
        if known:
            raise ProtocolError(
                "job-differs", f"There is a job {work.job_id} with other frames or settings.", "Use a new job id."
            )
        self._check(work)
        if missing := self._store.missing(work.frames):
            self._ready_worker()  # it loads its modules during the upload
            return missing
        self._journal.add(work)
        self._announce(self.status(work.job_id))
        self.advance()
        return self.status(work.job_id)

    def status(self, job_id: str) -> JobStatus:
        """How the job stands; refused with `no-such-job`."""
        if self._running and self._running.job_id == job_id:
            return self._running
        status = self._unsaved.get(job_id) or self._journal.status(job_id)
        if status is None:
            raise ProtocolError("no-such-job", f"The engine knows no job {job_id}.", "Submit it again.")
        return status

    def newest(self) -> list[JobStatus]:
        """The newest jobs, oldest first, in brief."""
        listed = self._journal.newest(limits.MAX_JOBS_LISTED)
        return [self.status(status.job_id).brief() for status in listed]

    def cancel(self, job_id: str) -> JobStatus:
        """End a job, at its next denoising step if it runs; one that has ended stays as it is."""
        status = self.status(job_id)
        if status.final:
            return status
        cancelled = JobStatus(job_id=job_id, state="cancelled")
        if status is self._running:
            self._worker.send(pipes.Stop(job_id=job_id))
            self._journal.set(cancelled)  # so that it stays cancelled if the engine ends before the worker has stopped
        else:
            self._journal.set(cancelled)
            self._announce(cancelled)
        return self.status(job_id)

    def advance(self) -> None:
        """Give the worker the next job, if it has none."""
        if self._running or not self._save():
            return
        work = self._journal.first_queued()
        if work is None:
            return
        self._running, self._started = JobStatus(job_id=work.job_id, state="running"), time.monotonic()
        try:
            self._ready_worker().send(work)
        except ProtocolError as error:
            self._end(state="failed", error=Failure(error.code, error.sentence, error.remedy))
            return
        self._announce(self._running)

    def receive(self, received: FromWorker) -> None:
        """Take in what a worker says."""
        if received.worker is not self._worker:
            return
        match received.message:
            case None:
                self._worker_ended()
            case pipes.Ready(device=device):
                self.device = device
            case pipes.Reported() as report:
                self._report(report)
            case pipes.Finished() as result:
                self._end(
                    state="done",
                    fraction=1.0,
                    notes=[limits.cut(note) for note in result.notes[: limits.MAX_NOTES]],
                    frames=result.frames,
                    masks=result.masks,
                    timings=result.timings,
                )
            case pipes.Failed() as failed:
                self._end(
                    state="failed", error=Failure(failed.code, limits.cut(failed.sentence), limits.cut(failed.remedy))
                )
            case pipes.Stopped():
                self._end(state="cancelled")
        self.advance()

    def close(self) -> None:
        """End the worker; its job starts anew with the next engine."""
        if self._worker:
            self._worker.end()

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
        if self._journal.open_jobs() >= limits.MAX_QUEUED_JOBS:
            raise ProtocolError(
                "queue-full",
                f"{limits.MAX_QUEUED_JOBS} jobs are waiting already.",
                "Wait for one to finish, or cancel one.",
            )

    def _report(self, report: pipes.Reported) -> None:
        now, fraction = time.monotonic(), report.fraction
        if not fraction:
            self._started = now  # reading and loading say nothing about the steps to come
        elapsed = now - self._started
        self._running = JobStatus(
            job_id=report.job_id,
            state="running",
            stage=report.stage,
            step=report.step,
            steps=report.steps,
            fraction=fraction,
            seconds_left=elapsed * (1 - fraction) / fraction if fraction > _TOO_EARLY else None,
        )
        self._announce(self._running)

    def _end(self, **fields) -> None:
        """Note that the running job has ended."""
        status = JobStatus(job_id=self._running.job_id, **fields)
        self._running = None
        self._unsaved[status.job_id] = status
        self._save()
        self._announce(status.brief())

    def _save(self) -> bool:
        """Write to the journal how jobs have ended; False while the disk is too full for that."""
        try:
            for status in list(self._unsaved.values()):
                self._journal.set(status)
                del self._unsaved[status.job_id]
        except ProtocolError as error:
            log.warning("%s", error)
        return not self._unsaved

    def _worker_ended(self) -> None:
        worker, self._worker = self._worker, None
        code = worker.end()
        self._store.sweep("result-*")
        log.warning("worker %d ended with code %d", worker.pid, code)
        if not self._running:
            return
        if self._journal.status(self._running.job_id).state == "cancelled":
            self._end(state="cancelled")
            return
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        error = Failure(
            "worker-died",
            f"The engine's worker process {how} during the edit.",
            "Try again; if memory ran out, use fewer or smaller frames (the engine's logs/worker.log may say more).",
        )
        self._end(state="failed", error=error)
