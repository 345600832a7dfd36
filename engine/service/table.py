"""How the jobs of one engine stand: as the journal has them, as their running says, and as they have ended just now."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import JobStatus

from .giving_way import WAITS, GivingWay
from .journal import Journal
from .pool import Pool
from .runs import Run, Task

log = logging.getLogger(__name__)


class Table:
    """Knows every job by its owner and id; `announce` is told of changes of a status, with the owner."""

    def __init__(self, journal: Journal, pool: Pool, giving_way: GivingWay, announce: Callable[[str, JobStatus], None]):
        self._journal, self._pool, self._giving_way, self.announce = journal, pool, giving_way, announce
        self.runs: dict[tuple[str, str], Run] = {}
        """Jobs that are under way, also those that nobody wants any more and that have yet to stop."""
        self._unsaved: dict[tuple[str, str], JobStatus] = {}

    def running(self, owner: str, job_id: str) -> Run | None:
        """The job, if it is under way and somebody still wants it."""
        run = self.runs.get((owner, job_id))
        return run if run and not run.forgotten else None

    def at(self, place: str) -> tuple[Run | None, Task | None]:
        """What the worker at that place is doing."""
        for run in self.runs.values():
            for task in run.active:
                if task.place == place:
                    return run, task
        return None, None

    def noted(self, owner: str, job_id: str) -> JobStatus | None:
        """How a job stands apart from its running: a running one is noted as `queued`, or as what it shall be next."""
        return self._unsaved.get((owner, job_id)) or self._journal.status(owner, job_id)

    def status(self, owner: str, job_id: str) -> JobStatus:
        """How the job stands; refused with `no-such-job`, also where it is another owner's."""
        run = self.running(owner, job_id)
        if run and run.status.state == "running":
            return run.status
        status = self.noted(owner, job_id)
        if status is None:
            raise ProtocolError("no-such-job", f"The engine knows no job {job_id}.", "Begin the edit again.")
        if status.state == "queued":
            ahead = self._journal.queued(owner).index(job_id)
            waits = self._pool.trouble or (WAITS if self._giving_way.rests((owner, job_id)) else "")
            status = msgspec.structs.replace(run.status if run else status, ahead=ahead, waits=waits)
        return status

    def newest(self, owner: str) -> list[JobStatus]:
        """The owner's newest jobs, oldest first, in brief."""
        return [self.status(owner, job_id).brief() for job_id in self._journal.newest(owner, limits.MAX_JOBS_LISTED)]

    def save(self) -> bool:
        """Write to the journal how jobs have ended; False while the disk is too full for that."""
        try:
            for (owner, job_id), status in list(self._unsaved.items()):
                self._journal.set(owner, status)
                del self._unsaved[owner, job_id]
        except ProtocolError as error:
            log.warning("%s", error)
        return not self._unsaved

    def end(self, owner: str, status: JobStatus) -> None:
        """Note that a job has ended, as soon as the disk takes it."""
        self._unsaved[owner, status.job_id] = status
        self.save()

    def drop(self, owner: str, job_id: str) -> None:
        """Know nothing of it any more."""
        self._unsaved.pop((owner, job_id), None)
        self._journal.remove(owner, job_id)

    def note(self, owner: str, status: JobStatus) -> None:
        """Note how a job stands from now on, whatever it came to before."""
        self._journal.set(owner, status)
        self._unsaved.pop((owner, status.job_id), None)

    def tell(self, owner: str, job_id: str) -> None:
        """Announce how the job stands."""
        self.announce(owner, self.status(owner, job_id).brief())
