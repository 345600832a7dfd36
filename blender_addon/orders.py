"""What the client's thread is handed over to have made. Without bpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .protocol import limits
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
