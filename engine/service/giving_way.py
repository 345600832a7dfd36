"""Tunings make room: one that has had its turn stops for other jobs, keeps its step, and goes on where it stopped.

What it has done counts in its owner's share as it is done, so that whoever would come next once it has stopped is known
before.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .runs import Run
from .turns import Asking, Turns

TURN = 60.0
"""Seconds for which a tuning has its worker at least: the model has to be loaded again for every turn."""
WAITS = "Other jobs go first; the tuning goes on where it stopped."


class GivingWay:
    """Which tunings have stopped for others, and which shall. `turn`: seconds."""

    def __init__(self, turns: Turns, turn: float = TURN):
        self._turns, self._turn = turns, turn
        self._resting: set[tuple[str, str]] = set()
        self._charged: dict[tuple[str, str], float] = {}

    def rests(self, key: tuple[str, str]) -> bool:
        """Whether that job has stopped for others, and waits to go on."""
        return key in self._resting

    def given(self, key: tuple[str, str]) -> None:
        """It goes on, or will not any more."""
        self._resting.discard(key)
        self._charged.pop(key, None)

    def came_to(self, run: Run, fraction: float, cost: float) -> None:
        """A tuning, whose whole takes `cost`, has come to that fraction: what it did of it since the last time counts now."""
        done = fraction - self._charged.get(run.key, fraction)
        self._charged[run.key] = fraction
        if done > 0:
            self._turns.given(_asking(run), done * cost)

    def due(self, runs: Iterable[Run], asking: Sequence[Asking], tunings: set, busy: Mapping[str, int]) -> list[Run]:
        """Tunings that shall stop now, as somebody else would have their worker.

        `asking`: all that waits; `tunings`: which of it are tunings, by owner and id; `busy`: workers by owner.
        """
        found = []
        for run in runs:
            if run.work.tuning is None or run.forgotten or run.key in self._resting:
                continue
            if not any(task.stage == "tune" and time.monotonic() - task.since > self._turn for task in run.active):
                continue
            # A user's tunings wait for each other: taking turns would only load models.
            others = [one for one in asking if one.owner != run.work.owner or (one.owner, one.job_id) not in tunings]
            after = Counter(busy) - Counter({run.work.owner: 1})
            first = self._turns.next([*others, _asking(run)], after)
            if first is not None and (first.owner, first.job_id) != run.key:
                self._resting.add(run.key)
                found.append(run)
        return found


def _asking(run: Run) -> Asking:
    """The tuning as it would wait once it has stopped."""
    work = run.work
    return Asking(work.owner, work.project, work.job_id, run.place, work.priority, rests=True)
