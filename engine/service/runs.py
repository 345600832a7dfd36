"""A job that is under way: what each worker does of it, and how far all of it has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from engine.parts import Part
from protocol import limits
from protocol.messages import JobStatus

from . import divided, pipes

_TOO_EARLY = 0.02
"""Fraction of a job below which nothing is said about the time that is left."""
_NOT_YET = ("", "read", "load")
"""Stages that say nothing about the steps to come."""
NOTES_OF_TROUBLES = 3
"""Of workers that were replaced: the latest ones are told."""
MOST_LOST = 5
"""Machines that may be lost at the same step of a job, before it is taken for the reason."""


@dataclass(eq=False)
class Task:
    """What one worker is to do of a job: all of it, or a part."""

    work: pipes.Work
    place: str | None = None
    """Where it is done; None: it waits for a worker."""
    heard: float = 0.0
    """When (of `time.monotonic`) its worker last said something."""
    since: float = 0.0
    """When its worker got it."""
    stage: str = ""
    fraction: float = 0.0
    """Of the task."""
    furthest: float = -1.0
    """Fraction at which the last try ended without a word."""
    stuck: int = 0
    """Tries that came no further than the one before."""
    result: pipes.Finished | None = None

    def may_try_again(self, most: int) -> bool:
        """Whether it is worth another try: one that came further is, and `most` that did not."""
        return self.fraction > self.furthest or self.stuck + 1 < most

    def try_again(self) -> None:
        """Let it wait for another worker, which goes on from the last step."""
        self.stuck = 0 if self.fraction > self.furthest else self.stuck + 1
        self.furthest, self.fraction, self.stage, self.place = self.fraction, 0.0, "", None


@dataclass(eq=False)
class Run:
    """A job from its first worker to its end."""

    work: pipes.Work
    tasks: list[Task]
    status: JobStatus
    began: tuple[float, float] = (0.0, 0.0)
    """Moment (of `time.monotonic`) and fraction at which its steps began."""
    notes: list[str] = field(default_factory=list)
    helpers: int = 0
    """The most workers that it had at a time."""
    place: int = 0
    """In the queue."""
    written: list[str] = field(default_factory=list)
    """Names of the edited frames that are made, where a single task does it all."""
    forgotten: bool = False
    """Nobody wants to hear of it any more: it only has to stop."""

    @classmethod
    def of(cls, work: pipes.Work, parts: list[Part], place: int = 0) -> Run:
        """A job that is about to begin, in these parts, from its place in the queue."""
        run = cls(work, [], JobStatus(job_id=work.job_id, task=work.task, state="running"), place=place)
        run.part(parts)
        return run

    @property
    def key(self) -> tuple[str, str]:
        """Whose job it is, and its id."""
        return self.work.key

    @property
    def active(self) -> list[Task]:
        """Tasks that a worker has."""
        return [task for task in self.tasks if task.place is not None]

    @property
    def waiting(self) -> list[Task]:
        """Tasks that need a worker."""
        return [task for task in self.tasks if task.place is None and task.result is None]

    def part(self, parts: list[Part]) -> None:
        """Let it be done in these parts; a single one is the whole."""
        works = [msgspec.structs.replace(self.work, part=part) for part in parts] if len(parts) > 1 else [self.work]
        self.tasks, self.written = [Task(work) for work in works], []

    def took(self, task: Task, place: str) -> None:
        """A worker begins with a task."""
        now = time.monotonic()
        if not self.active:
            self.began = now, self.fraction
        task.place, task.heard, task.since = place, now, now
        self.helpers = max(self.helpers, len(self.active))
        self.status = self._status("running", task.stage)

    def lost(self, task: Task, note: str) -> None:
        """A worker is gone, or what it has made; the task waits for another one."""
        task.try_again()
        self.written = []
        task.result = None
        self.notes = [*self.notes, note][-NOTES_OF_TROUBLES:]
        self.status = self._status("running" if self.active else "queued", "")

    def report(self, task: Task, report: pipes.Reported) -> None:
        """A task has come further."""
        if report.stage in _NOT_YET or task.stage in _NOT_YET:
            self.began = time.monotonic(), self.fraction
        task.stage, task.fraction = report.stage, report.fraction
        status = self._status("running", report.stage, report.step, report.steps)
        self.status = msgspec.structs.replace(status, loss=report.loss)

    def wrote(self, names: list[str]) -> None:
        """Further frames are made."""
        self.written += names
        self.status = msgspec.structs.replace(self.status, written=len(self.written))

    def finished(self, task: Task, result: pipes.Finished) -> pipes.Finished | None:
        """A task is done; the whole result, if it was the last one."""
        task.result, task.fraction, task.place = result, 1.0, None
        if any(other.result is None for other in self.tasks):
            self.status = self._status("running" if self.active else "queued", self.status.stage)
            return None
        whole = divided.joined([task.result for task in self.tasks])
        notes = [*self.notes, *whole.notes]
        if len(self.tasks) > 1:
            at_once = f"by {self.helpers} workers" if self.helpers > 1 else "by one worker after another"
            notes.append(f"The clip was edited in {len(self.tasks)} parts, {at_once}; the result is the same.")
        cut = [limits.cut(note) for note in notes[: limits.MAX_NOTES]]
        return msgspec.structs.replace(whole, notes=cut)

    @property
    def fraction(self) -> float:
        """How much of it is done, by frames."""
        frames = [task.work.part.count if task.work.part else len(task.work.frames) for task in self.tasks]
        return sum(task.fraction * count for task, count in zip(self.tasks, frames, strict=True)) / sum(frames)

    def _status(self, state: str, stage: str, step: int = 0, steps: int = 0) -> JobStatus:
        (since, base), fraction, now = self.began, self.fraction, time.monotonic()
        done = fraction - base
        return JobStatus(
            job_id=self.work.job_id,
            task=self.work.task,
            state=state,
            stage=stage,
            step=step,
            steps=steps,
            fraction=fraction,
            seconds_left=(now - since) * (1 - fraction) / done if done > _TOO_EARLY else None,
            workers=len(self.active),
            written=len(self.written),
        )
