"""Who wants to know that a job has ended, such as notifications and estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .job import Job

listeners: list[Callable[[Job], None]] = []
"""Called on the main thread, once with each job that has ended, whichever way; they must not raise."""
_told: set[str] = set()


def tell(jobs: Iterable[Job]) -> None:
    """Let the listeners know of jobs that have ended since the last call."""
    for job in jobs:
        if job.final and job.id not in _told:
            _told.add(job.id)
            for listener in listeners:
                listener(job)
        elif not job.final:
            _told.discard(job.id)  # it is tried again
