"""What the client's thread tells Blender's side, one message at a time. Without bpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .protocol.messages import JobStatus, Welcome
from .trouble import Trouble


@dataclass(frozen=True)
class EngineChanged:
    """The engine is `off`, `starting`, `ready` or `lost` (and tried again); `trouble` says why it is not there."""

    state: str
    welcome: Welcome | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True)
class EngineHolds:
    """The engine's worker holds so many bytes, of the computer's memory and of the device's own."""

    memory: int
    device_memory: int


@dataclass(frozen=True)
class Sending:
    """So many of the job's frames are sent."""

    job_id: str
    done: int
    total: int


@dataclass(frozen=True)
class Sent:
    """The engine has the job."""

    job_id: str


@dataclass(frozen=True)
class JobChanged:
    """How the job stands with the engine."""

    status: JobStatus

    @property
    def job_id(self) -> str:
        """Which job."""
        return self.status.job_id


@dataclass(frozen=True)
class Preview:
    """What a running job's work looks like after a step: PNG files, small, of some frames of the clip, from 0."""

    pictures: list[bytes]
    frames: list[int]
    step: int
    steps: int


@dataclass(frozen=True)
class Previewed:
    """The job has a new preview."""

    job_id: str
    preview: Preview


@dataclass(frozen=True)
class Fetching:
    """So many files of the job's result have arrived."""

    job_id: str
    done: int
    total: int


@dataclass(frozen=True)
class Arrived:
    """The job's whole result is safe in `folder`: so many frames, made by that version of the engine.

    `mask_set`: where its masks are, if it has made any.
    """

    job_id: str
    folder: Path
    frames: int
    made_by: str
    mask_set: Path | None


@dataclass(frozen=True)
class NotFetched:
    """The job's result could not be written here; the engine keeps it."""

    job_id: str
    trouble: Trouble


@dataclass(frozen=True)
class JobLost:
    """The job ended without a result: cancelled, or for the reason given."""

    job_id: str
    trouble: Trouble | None


@dataclass(frozen=True)
class Told:
    """The engine knows that the job is taken or forgotten."""

    job_id: str


@dataclass(frozen=True)
class Refused:
    """Something that was asked for the job, or for no job where that has no id, is not done; it stays as it is."""

    job_id: str
    trouble: Trouble


Event = (
    EngineChanged
    | EngineHolds
    | Sending
    | Sent
    | JobChanged
    | Previewed
    | Fetching
    | Arrived
    | NotFetched
    | JobLost
    | Told
    | Refused
)
