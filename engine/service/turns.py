"""Whose work comes next: shares between users and between a user's projects, and priorities within these.

Start-time fair queuing (Goyal, Vin and Cheng, 1996), once over users and once over each one's projects: what is given
out moves its user's clock on by its cost over the user's share, and the clock that is furthest behind is served. Who
comes late begins at the present and cannot claim the past. Nothing here looks at a clock on the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PLACES_A_STEP = 32
"""Places in the queue that a step of priority is worth: so many later jobs at most pass one of the step below."""


@dataclass(frozen=True)
class Asking:
    """Work that could be given to a worker now."""

    owner: str
    project: str
    job_id: str
    place: int
    """In the queue; what has begun already comes before all that has not."""
    priority: int = 0
    begun: bool = False
    rests: bool = False
    """It has stopped to make room for the others of its project."""

    @property
    def turn(self) -> tuple[bool, bool, int]:
        """What comes first within a project has the least."""
        return not self.begun, self.rests, self.place - PLACES_A_STEP * self.priority


class _Clocks:
    """One clock for each name; a name that is not there stands at the present."""

    def __init__(self):
        self._now, self._times = 0.0, {}

    def time(self, name: str) -> float:
        return self._times.get(name, self._now)

    def advance(self, name: str, by: float) -> None:
        self._now = self.time(name)
        self._times[name] = self._now + by
        self._times = {other: time for other, time in self._times.items() if time > self._now}


class Turns:
    """Chooses from what waits. `share` says what a user has, 1 being usual; `most` its workers at a time, 0 for any."""

    def __init__(self, share: Callable[[str], float] = lambda owner: 1.0, most: Callable[[str], int] = lambda owner: 0):
        self._share, self._most = share, most
        self._owners = _Clocks()
        self._projects: dict[str, _Clocks] = {}

    def next(self, asking: Sequence[Asking], busy: Mapping[str, int]) -> Asking | None:
        """What comes next; None where all that wait have as many workers as they may. `busy`: workers by owner."""
        allowed = [one for one in asking if not 0 < self._most(one.owner) <= busy.get(one.owner, 0)]
        return min(allowed, key=self._order, default=None)

    def given(self, one: Asking, cost: float) -> None:
        """Note that it was given to a worker, whose time it will take in proportion to `cost`."""
        self._owners.advance(one.owner, cost / self._share(one.owner))
        projects = self._projects.setdefault(one.owner, _Clocks())
        projects.advance(one.project, cost)

    def _order(self, one: Asking) -> tuple:
        projects = self._projects.get(one.owner)
        return self._owners.time(one.owner), projects.time(one.project) if projects else 0.0, one.turn, one.owner
