"""What waits for a worker, and what is at one: who comes next, how many workers a job may have, which tunings make room."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from .giving_way import GivingWay
from .journal import Journal
from .pool import Pool
from .runs import Run
from .turns import Asking, Turns


class Lineup:
    """Looks at the journal's jobs, those that are under way among them (`runs`, by owner and id), and at the pool's places."""

    def __init__(
        self,
        journal: Journal,
        runs: Mapping[tuple[str, str], Run],
        pool: Pool,
        turns: Turns,
        giving_way: GivingWay,
    ):
        self._journal, self._runs, self._pool, self._turns, self._giving_way = journal, runs, pool, turns, giving_way

    @property
    def taken(self) -> set[str]:
        """Places whose workers are at work."""
        return {task.place for run in self._runs.values() for task in run.active}

    @property
    def idle(self) -> list[str]:
        """Places whose workers are not, or where there is none yet."""
        taken = self.taken
        return [place for place in self._pool.places if place not in taken]

    def next(self) -> Asking | None:
        """What a worker that is free shall do: a job that waits, or what waits of one that has begun."""
        return self._turns.next(self._waiting(), self._busy())

    def spare(self) -> int:
        """Workers that a job may have which begins now: those that are free, but one for every other job that waits."""
        others = sum((one.owner, one.job_id) not in self._runs for one in self._journal.asking()) - 1
        return len(self._pool.places) - sum(self._busy().values()) - others

    def in_the_way(self) -> list[Run]:
        """Tunings that have had their turn, where others would come next."""
        if not any(run.work.tuning for run in self._runs.values()) or self.idle:
            return []
        waiting = self._waiting()
        tunings = {key for one in waiting if self._is_tuning(key := (one.owner, one.job_id))}
        return self._giving_way.due(self._runs.values(), waiting, tunings, self._busy()) if waiting else []

    def _is_tuning(self, key: tuple[str, str]) -> bool:
        status = self._journal.status(*key)
        return status is not None and status.task == "tune"

    def _waiting(self) -> list[Asking]:
        """All that could be given to a worker."""
        found = []
        for one in self._journal.asking():
            run, rests = self._runs.get((one.owner, one.job_id)), self._giving_way.rests((one.owner, one.job_id))
            if run is None or (run.waiting and not run.forgotten):
                found.append(dataclasses.replace(one, begun=run is not None, rests=rests))
        return found

    def _busy(self) -> Counter[str]:
        """Workers by owner."""
        busy = Counter()
        for (owner, _), run in self._runs.items():
            busy[owner] += len(run.active)
        return busy
