"""What the client's thread has to do. Without bpy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


class Cancelled(Exception):
    """Raised within what is no longer wanted."""


@dataclass(frozen=True)
class Task:
    """Something that a job needs the engine for; done as soon as there is a connection."""

    job_id: str
    do: Callable[[], None]


def drop(tasks: deque[Task], jobs: set[str]) -> None:
    """Forget those of these jobs."""
    kept = [task for task in tasks if task.job_id not in jobs]
    tasks.clear()
    tasks.extend(kept)
