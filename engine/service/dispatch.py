"""What becomes of jobs at the workers: given to them, whole or in parts, watched, tried again, and brought to their ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import Failure, JobStatus

from . import divided, pipes, tunings
from .crew import Crew
from .giving_way import GivingWay
from .journal import Journal
from .lineup import Lineup
from .pool import Pool
from .retention import Retention
from .runs import MOST_LOST, Run, Task
from .store import Store
from .table import Table
from .turns import Asking, Turns
from .workers import FromWorker

PARTS_A_WORKER = 2
"""Of a long clip: so that a worker that comes late, or is done early, gets some."""
_OUT_OF_MEMORY = ("memory", "out-of-memory")
_SIGKILL = -9
"""How a worker ends that the system kills for its memory."""

log = logging.getLogger(__name__)


class Dispatch:
    """Has the table's jobs done by the pool's workers; `show` is given previews, with their owner. Not for several
    threads."""

    def __init__(
        self,
        home: Path,
        table: Table,
        journal: Journal,
        store: Store,
        retention: Retention,
        pool: Pool,
        turns: Turns,
        giving_way: GivingWay,
        show: Callable[[str, pipes.Previewed], None],
        step_limit: float,
    ):
        self._home, self._table, self._journal = home, table, journal
        self._store, self._retention = store, retention
        self._pool, self._turns, self._giving_way = pool, turns, giving_way
        self._show, self._step_limit, self._crew = show, step_limit, Crew(pool, store)
        self._lineup = Lineup(journal, table.runs, pool, turns, giving_way)
        self._told = ""
        """The pool's trouble, as clients know it."""

    @property
    def device(self) -> str | None:
        """What workers compute on and how many they are, as far as that is known; or why there is none."""
        return self._crew.device

    def advance(self) -> None:
        """Give work to the workers that have none."""
        if not self._table.save():
            return
        for place in self._lineup.idle:
            if not self._give(place):
                return

    def check(self) -> None:
        """Replace workers that have not said anything for longer than a step may take; tell of trouble with the pool; let
        tunings make room."""
        if self._pool.trouble != self._told:
            self._told = self._pool.trouble
            log.log(logging.WARNING if self._told else logging.INFO, self._told or "there are workers again")
            for one in self._journal.asking():
                self._table.tell(one.owner, one.job_id)
        for run in list(self._table.runs.values()):
            for task in run.active:
                if time.monotonic() - task.heard > self._step_limit:
                    worker = self._crew[task.place]
                    log.error("worker hangs", extra={"worker": worker.pid, "job": run.work.job_id})
                    worker.kill()
                    self._worker_ended(task.place, "did not finish a step within the limit and was ended")
        for run in self._lineup.in_the_way():
            log.info("tuning makes room", extra={"job": run.work.job_id, "owner": run.work.owner})
            self._stop(run)

    def receive(self, received: FromWorker) -> None:
        """Take in what a worker says."""
        place = self._crew.place_of(received.worker)
        if place is None:
            return
        run, task = self._table.at(place)
        if task:
            task.heard = time.monotonic()
        match received.message:
            case None:
                self._worker_ended(place)
            case pipes.Ready(device=device):
                self._crew.computes_on(place, device)
            case pipes.Holds(device_memory=held):
                self._crew.holds(place, held)
            case pipes.Previewed() as preview if run and not run.forgotten:
                self._show(run.work.owner, preview)
            case pipes.Reported() as report:
                self._report(run, task, report)
            case pipes.Written(frames=names):
                run.wrote(names)
            case pipes.Finished() as result:
                self._finished(run, task, result)
            case pipes.Failed(code="needs-whole-clip"):
                self._leave_whole(run, task)
            case pipes.Failed() as failed if failed.code in _OUT_OF_MEMORY and task.may_try_again(1):
                self._crew.replace(place)
                if self._unwanted(run):
                    self._stopped(run, task)
                else:
                    note = f"{limits.cut(failed.sentence)} It was tried again with less at a time."
                    self._try_again(run, task, note, _SIGKILL)
            case pipes.Failed() as failed:
                self._fail(run, failed.code, limits.cut(failed.sentence), limits.cut(failed.remedy), task)
            case pipes.Stopped():
                self._stopped(run, task)
        self.advance()

    def warm(self) -> None:
        """Have a worker load its modules before there is work."""
        self._crew.warm()

    def held(self) -> tuple[int, int]:
        """Bytes that the workers hold of the computer's memory and, when last they told, of their devices' own."""
        return self._crew.held()

    def rest(self) -> None:
        """End the workers, which frees all that they hold; the next job starts others. Refused while a job runs."""
        if any(run.active for run in self._table.runs.values()):
            raise ProtocolError("at-work", "The engine is at work on a job.", "Pause or cancel it first.")
        self._crew.rest()

    def close(self) -> None:
        """End the workers; their jobs go on with the next engine."""
        self._crew.close()

    def leave(self, owner: str, job_id: str, state: str) -> JobStatus:
        """Note that a job is cancelled or paused; a running one is told to stop, and ends so even if the engine ends
        before it has."""
        status = JobStatus(job_id=job_id, task=self._table.status(owner, job_id).task, state=state)
        self._journal.set(owner, status)
        run = self._table.running(owner, job_id)
        if run and run.active:
            self._stop(run)
        else:
            if run:  # but not one that was forgotten, and has yet to stop: its worker will say when it has
                del self._table.runs[owner, job_id]
            self._left(owner, status)
        return self._table.status(owner, job_id)

    def _left(self, owner: str, status: JobStatus) -> None:
        if status.state != "queued":
            self._giving_way.given((owner, status.job_id))
        if status.state == "cancelled":
            self._retention.drop_checkpoint(owner, status.job_id)
            if status.task == "tune":
                tunings.drop(self._home, owner, status.job_id)
        log.info("job %s", status.state, extra={"job": status.job_id, "owner": owner})
        self._table.tell(owner, status.job_id)

    def _give(self, place: str) -> bool:
        """Have the worker at `place` do what comes next; False where nothing does."""
        if (one := self._lineup.next()) is None:
            return False
        try:
            worker = self._crew.ready(place)
        except ProtocolError as error:  # too little memory, say: no job's fault, and each would fail in its turn
            log.debug("%s", error)
            return False
        while (run := self._table.runs.get((one.owner, one.job_id)) or self._begin(one)) is None:
            if (one := self._lineup.next()) is None:
                return False
        task = run.waiting[0]
        work = msgspec.structs.replace(task.work, memory_share=task.work.memory_share * self._pool.memory_share)
        worker.send(work)
        run.took(task, place)
        self._giving_way.given(run.key)
        if not work.tuning:
            self._turns.given(one, _cost(work))
        part = f"{work.part.first}-{work.part.end}" if work.part else None
        facts = {"job": one.job_id, "owner": one.owner, "worker": worker.pid, "part": part}
        log.info("job started", extra=facts)
        self._table.tell(*run.key)
        return True

    def _begin(self, one: Asking) -> Run | None:
        """Begin a job: in parts, if it is long and there are workers that nothing else waits for."""
        work = self._journal.work(one.owner, one.job_id)
        if work is None:
            error = Failure("unreadable", "This job was noted by an engine of another make.", "Begin the edit again.")
            self._journal.set(one.owner, JobStatus(job_id=one.job_id, state="failed", error=error))
            self._table.tell(one.owner, one.job_id)
            return None
        spare = self._lineup.spare()
        parts = divided.split(self._home, work, spare * PARTS_A_WORKER if spare > 1 else 1)
        run = self._table.runs[work.owner, work.job_id] = Run.of(work, parts, one.place)
        return run

    def _report(self, run: Run, task: Task, report: pipes.Reported) -> None:
        run.report(task, report)
        if run.work.tuning and report.stage == "tune":
            self._giving_way.came_to(run, report.fraction, _cost(run.work))
        if not run.forgotten:
            self._table.tell(*run.key)

    def _finished(self, run: Run, task: Task, result: pipes.Finished) -> None:
        """A worker is done with its task, and perhaps the job with it."""
        self._retention.count(run.work.owner, result.blobs)
        if not run.forgotten:
            try:
                self._journal.needs(*run.key, result.blobs)
            except ProtocolError as error:  # they are new, and are looked at again before the job is done
                log.warning("%s", error)
        whole = run.finished(task, result)
        state = None if run.forgotten else self._table.noted(*run.key).state
        if whole is not None and state in ("queued", "paused"):
            gone = [each for each in run.tasks if self._store.missing(run.work.owner, each.result.blobs)]
            if not all(each.may_try_again(1) for each in gone):
                self._fail(
                    run,
                    "result-lost",
                    "What the engine had made of the edit was gone from its disk twice before it was complete.",
                    "Check the disk that holds the engine's folder, then try again.",
                )
                return
            for each in gone:
                run.lost(each, "A part of the result was gone from the engine's disk, and was made again.")
            whole = None if gone else whole
        if state is None or state == "cancelled" or (state == "paused" and whole is None):
            self._stopped(run, task)
        elif whole is None:
            self._table.tell(*run.key)
        else:
            self._done(run, whole)

    def _done(self, run: Run, whole: pipes.Finished) -> None:
        names = ("notes", "frames", "masks", "timings", "words", "soft_masks", "packs")
        fields = {name: getattr(whole, name) for name in names}
        if run.work.tuning:
            try:
                fields["model"], notes = tunings.register(self._home, run.work)
            except ProtocolError as error:
                self._fail(run, error.code, error.sentence, error.remedy)
                return
            fields["notes"] += notes
        self._end(run, state="done", fraction=1.0, **fields)

    def _unwanted(self, run: Run) -> bool:
        """Whether a job that has lost a worker shall not go on: it was forgotten, cancelled or paused meanwhile."""
        return run.forgotten or self._table.noted(*run.key).state != "queued"

    def _stop(self, run: Run) -> None:
        for task in run.active:
            self._crew[task.place].send(pipes.Stop(job_id=run.work.job_id))

    def _stopped(self, run: Run, task: Task) -> None:
        """A worker has stopped with a job that was cancelled, paused, paused and resumed, or has failed elsewhere."""
        task.place = None
        if run.active:
            return
        self._table.runs.pop(run.key, None)
        if run.forgotten:
            self._giving_way.given(run.key)
        elif (noted := self._table.noted(*run.key)) is not None:
            self._left(run.work.owner, noted)

    def _end(self, run: Run, **fields) -> None:
        """Note that a job has ended; workers that still do something of it are told to stop."""
        owner, job_id = run.key
        run.forgotten = True
        self._giving_way.given(run.key)
        if not run.active:
            self._table.runs.pop(run.key, None)
        self._stop(run)
        status = JobStatus(job_id=job_id, task=run.work.task, **fields)
        self._table.end(owner, status)
        if status.state == "done":
            self._retention.drop_checkpoint(owner, job_id)
        code = status.error.code if status.error else None
        log.info("job %s", status.state, extra={"job": job_id, "owner": owner, "code": code})
        self._table.announce(owner, status.brief())

    def _fail(self, run: Run, code: str, sentence: str, remedy: str, task: Task | None = None) -> None:
        if task and (run.forgotten or self._table.noted(*run.key).state == "cancelled"):
            self._stopped(run, task)
            return
        if task:
            task.place = None
        self._end(run, state="failed", error=Failure(code, sentence, remedy))

    def _leave_whole(self, run: Run, task: Task) -> None:
        """The model cannot take the job in parts: it begins again, whole."""
        task.place = None
        if self._unwanted(run):
            self._stopped(run, task)
            return
        for other in run.active:
            self._crew.replace(other.place)
        run.part(divided.leave_whole(self._home, run.work))

    def _worker_ended(self, place: str, how: str = "") -> None:
        run, task = self._table.at(place)
        code = self._crew.replace(place)
        lost = code is None and not how
        if lost:
            how = "was lost with its machine"
        how = how or (f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")
        if not run:
            return
        if self._unwanted(run):
            self._stopped(run, task)
        elif task.may_try_again(MOST_LOST if lost else 1):
            self._try_again(run, task, f"The engine's worker process {how}; the edit went on from its last step.", code)
        else:
            times = f"{MOST_LOST + 1} times" if lost else "twice"
            self._fail(
                run,
                "worker-died",
                f"The engine's worker process {how} during the edit, {times} at the same place.",
                "If memory ran out, use fewer or smaller frames; the engine's logs/worker.log may say more.",
                task,
            )

    def _try_again(self, run: Run, task: Task, note: str, code: int | None) -> None:
        run.lost(task, note)
        if code == _SIGKILL:
            task.work = msgspec.structs.replace(task.work, memory_share=task.work.memory_share / 2)
        self._table.tell(*run.key)


def _cost(work: pipes.Work) -> float:
    """The worker's time that it will take, in steps of frames; one of training takes about as long as one of an edit."""
    return (work.tuning or work.settings).steps * (work.part.count if work.part else len(work.frames))
