"""What clients may ask for their jobs: to accept them into the journal, tell of them, and change what becomes of them."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import JobStatus, Missing

from . import pipes
from .acceptance import check_room, check_work
from .dispatch import Dispatch
from .journal import Journal
from .retention import Retention
from .store import Store
from .table import Table

log = logging.getLogger(__name__)


class Jobs:
    """The journal's jobs as their owners see them. Not for several threads."""

    def __init__(
        self, home: Path, table: Table, dispatch: Dispatch, journal: Journal, store: Store, retention: Retention
    ):
        self._home, self._table, self._dispatch = home, table, dispatch
        self._journal, self._store, self._retention = journal, store, retention

    @property
    def idle(self) -> bool:
        """Whether no job waits or runs."""
        return not self._table.runs and not self._journal.asking()

    def submit(self, work: pipes.Work) -> JobStatus | list[Missing]:
        """Queue a job, or find it again; or the blobs that must be uploaded first. `ProtocolError` if it is refused."""
        if self._journal.status(work.owner, work.job_id):
            known = self._journal.work(work.owner, work.job_id)
            if known is None or msgspec.structs.replace(known, project=work.project, priority=work.priority) != work:
                raise ProtocolError(
                    "job-differs", f"There is a job {work.job_id} with other frames or settings.", "Use a new job id."
                )
            return self.status(work.owner, work.job_id)
        check_work(self._home, work, self._journal)
        if work.tuning:
            self._retention.admit_model()
        missing = self._store.missing(work.owner, work.blobs)
        self._retention.admit_job(work.owner)
        if missing:
            self._dispatch.warm()  # during the upload
            return missing
        self._journal.add(work)
        log.info("job accepted", extra={"job": work.job_id, "owner": work.owner, "frames": len(work.frames)})
        log.debug("job asks", extra={"source": work.settings.source, "target": work.settings.target})
        self._table.tell(work.owner, work.job_id)
        self._dispatch.advance()
        return self.status(work.owner, work.job_id)

    def lacking(self, owner: str, blobs: list[str]) -> list[Missing]:
        """Those of a coming job's blobs that must be uploaded; a worker gets ready for it meanwhile."""
        self._dispatch.warm()
        return self._store.missing(owner, blobs)

    def status(self, owner: str, job_id: str) -> JobStatus:
        """How the job stands; refused with `no-such-job`, also where it is another owner's."""
        return self._table.status(owner, job_id)

    def written(self, owner: str, job_id: str, first: int) -> list[str]:
        """Names of some of a running job's frames that are made, from number `first` on."""
        run = self._table.running(owner, job_id)
        return run.written[first : first + limits.TRANSFER_WINDOW] if run and run.active else []

    def newest(self, owner: str) -> list[JobStatus]:
        """The owner's newest jobs, oldest first, in brief."""
        return self._table.newest(owner)

    def cancel(self, owner: str, job_id: str) -> JobStatus:
        """End a job, at its next denoising step if it runs; one that has ended stays as it is."""
        status = self.status(owner, job_id)
        return status if status.final else self._dispatch.leave(owner, job_id, "cancelled")

    def pause(self, owner: str, job_id: str) -> JobStatus:
        """Leave a job until it is resumed; one that runs stops at its next denoising step."""
        status = self.status(owner, job_id)
        return (
            self._dispatch.leave(owner, job_id, "paused")
            if self._table.noted(owner, job_id).state == "queued"
            else status
        )

    def resume(self, owner: str, job_id: str) -> JobStatus:
        """Queue a paused job again, also one that is still about to pause."""
        status = self.status(owner, job_id)
        return self._queue(owner, job_id) if self._table.noted(owner, job_id).state == "paused" else status

    def retry(self, owner: str, job_id: str) -> JobStatus:
        """Queue a job again that failed or was cancelled, or whose result is not there any more."""
        status = self.status(owner, job_id)
        ended = self._table.noted(owner, job_id).state in ("failed", "cancelled")
        if not ended and not self._store.missing(owner, status.blobs):
            return status
        work = self._journal.work(owner, job_id)
        if work is None or self._store.missing(owner, work.blobs):
            raise ProtocolError("no-such-blob", "The engine no longer has the job's frames.", "Run the edit again.")
        check_room(owner, self._journal)
        return self._queue(owner, job_id)

    def move(self, owner: str, job_id: str, before: str | None) -> JobStatus:
        """Have a waiting job run before another one, or last of all of its owner's."""
        status = self.status(owner, job_id)
        if before is not None:
            self.status(owner, before)
        if status.state == "queued" and before != job_id:
            self._journal.move(owner, job_id, before)
            for other in self._journal.queued(owner):
                self._table.tell(owner, other)
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
        self.cancel(owner, job_id)
        if run := self._table.running(owner, job_id):
            run.forgotten = True
        self._table.drop(owner, job_id)
        self._retention.drop_checkpoint(owner, job_id)

    def _queue(self, owner: str, job_id: str) -> JobStatus:
        task = self.status(owner, job_id).task
        self._table.note(owner, JobStatus(job_id=job_id, task=task, state="queued"))
        self._table.tell(owner, job_id)
        self._dispatch.advance()
        return self.status(owner, job_id)
