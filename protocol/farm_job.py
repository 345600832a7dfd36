"""Job files for a render farm: one whole shot each, for `python -m engine render JOB.json`.

Paths in it are of whoever runs the command, relative to the file; no engine ever takes such a file from the wire.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from . import limits
from .errors import UNREADABLE, ProtocolError
from .files import pictures
from .messages import FramesPerSecond
from .settings import EditSettings

JOB_NAME = "JOB.json"
FRAMES_NAME, RESULT_NAME = "frames", "result"
RECORD_NAME = "result.json"
"""Beside a result's frames: of which job they are, for a second run of it, and which version of the engine made them."""
VERSION = 1
RelativePath = Annotated[str, msgspec.Meta(min_length=1, description="relative to the job file, with forward slashes")]


class FarmJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edit of one shot, from a folder of PNG files to another."""

    version: Literal[1] = VERSION
    name: str = ""
    """The strip's, for people."""
    frames: RelativePath = FRAMES_NAME
    """The folder of the shot's frames, in the order of their names, of which digits count as numbers."""
    out: RelativePath = RESULT_NAME
    """The folder for the result, which has it whole or is not there: `frames/00001.png`… and `masks/WORD/00001.png`…"""
    fps: FramesPerSecond = 24.0
    settings: EditSettings


def write(folder: Path, settings: EditSettings, name: str, fps: float) -> Path:
    """Write the job file of a shot whose frames are in `folder`/frames, and return it. Raises `OSError`."""
    job = FarmJob(name=name, settings=settings, fps=min(fps, limits.MAX_FPS))
    path = folder / JOB_NAME
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=2) + b"\n")
    os.replace(temporary, path)
    return path


def read(path: Path) -> FarmJob:
    """A job file; `ProtocolError` with code `cannot-read`, or `bad-settings` where it says what no job file says."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=FarmJob)
    except OSError as error:
        raise ProtocolError("cannot-read", f"The job file {path} cannot be read ({error.strerror}).") from error
    except UNREADABLE as error:
        raise ProtocolError(
            "bad-settings", f"{path} is no job file ({error}).", "Write it anew, or see docs/farm-job.schema.json."
        ) from error


def frames_of(folder: Path) -> list[Path]:
    """The PNG files of a folder, as `files.pictures` orders them; `ProtocolError` where there is none."""
    try:
        found = pictures(folder, {".png"})
    except OSError as error:
        raise ProtocolError("cannot-read", f"The frames' folder {folder} cannot be read ({error.strerror}).") from error
    if not found:
        raise ProtocolError("cannot-read", f"There is no PNG file in {folder}.", "Export the shot again.")
    return found


def schema() -> dict:
    """The JSON schema of a job file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(FarmJob)}
