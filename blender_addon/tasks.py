"""What the client's thread has to do. Without bpy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

PUT_OFF = 5.0
"""Seconds until it is tried again to hand over a job that the engine has no room for."""


class Cancelled(Exception):
    """Raised within what is no longer wanted."""


@dataclass(frozen=True)
class Task:
    """Something that a job needs the engine for; done as soon as there is a connection."""

    job_id: str
    do: Callable[[], None]


class PutOff:
    """Tasks that wait until it is time to try them again."""

    def __init__(self):
        self._waiting: deque[tuple[float, Task]] = deque()

    def add(self, task: Task) -> None:
        """Try it again after a while."""
        self._waiting.append((time.monotonic() + PUT_OFF, task))

    def due(self) -> list[Task]:
        """Those whose time has come, which wait no more."""
        found = []
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            found.append(self._waiting.popleft()[1])
        return found

    def drop(self, jobs: set[str]) -> None:
        """Forget those of these jobs."""
        self._waiting = deque(each for each in self._waiting if each[1].job_id not in jobs)


def drop(tasks: deque[Task], jobs: set[str]) -> None:
    """Forget those of these jobs."""
    kept = [task for task in tasks if task.job_id not in jobs]
    tasks.clear()
    tasks.extend(kept)
