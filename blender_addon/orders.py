"""What the client's thread is handed over to have made. Without bpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .protocol.messages import Task
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
