"""What the client's thread is handed over to have made. Without bpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .protocol import files, limits
from .protocol.connection import Connection, Report
from .protocol.messages import JobStatus, Task
from .protocol.settings import EditSettings
from .protocol.tuning import Tuning


@dataclass(frozen=True)
class Order:
    """A job as it is handed over."""

    job_id: str
    settings: EditSettings
    frames: list[Path]
    fps: float
    project: str
    """The .blend's name: a user's projects share the engine alike."""
    task: Task
    own_masks: list[Path]
    """One for each frame, or none."""
    tuning: Tuning | None
    """What shall be made, where the task is `tune`."""

    def send(self, connection: Connection, on_sent: Report, before_digest: Callable[[], None]) -> JobStatus:
        """Hand it over, as `Connection.submit` does."""
        return connection.submit(
            self.job_id, self.settings, self.frames, self.fps, on_sent,
            task=self.task, own_masks=self.own_masks, project=self.project[: limits.MAX_PROJECT_CHARACTERS],
            tuning=self.tuning, before_digest=before_digest,
        )  # fmt: skip

    def digest(self, before_each: Callable[[], None]) -> str:
        """What names all of its frames; `before_each` is called before each is read, and may wait."""
        names = ""
        for path in self.frames:
            before_each()
            names += files.digest(path)
        return hashlib.sha256(names.encode()).hexdigest()
