"""What the client's thread has to do. Without bpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .protocol import messages
from .protocol.settings import EditSettings


class Cancelled(Exception):
    """Raised within what is no longer wanted."""


@dataclass(frozen=True)
class Task:
    """Something that a job needs the engine for; done as soon as there is a connection."""

    job_id: str
    do: Callable[[], None]


@dataclass(frozen=True)
class Order:
    """A job as it is handed over."""

    job_id: str
    settings: EditSettings
    frames: list[Path]
    fps: float
    task: messages.Task
    own_masks: list[Path]
