"""Edited frames come back: a folder beside the .blend, a strip over its source, and on it what made it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import bpy

from . import compat, strips
from .trouble import Trouble

FOLDER = "fatezero"
"""Beside the .blend: every result has a folder of its own in it."""
_RENAMES, _PAUSE = 5, 0.02
"""How often a folder's renaming is tried, and seconds between."""
TAG = "fatezero"
"""The strip's custom property that says how it was made."""


@dataclass(frozen=True)
class Origin:
    """How a result was made: enough to make it again. `settings` is `EditSettings` as JSON."""

    job_id: str
    source: str
    target: str
    settings: str
    model: str
    engine: str
    protocol: int
    strip: str
    """Name of the strip that was edited."""
    source_digest: str
    """SHA-256 over the SHA-256 of each exported frame."""

    def as_properties(self) -> dict[str, str | int]:
        """As custom properties; FateZero draws no random numbers, so there is no seed to keep."""
        return {**self.__dict__, "seed": "none"}


class Landing:
    """A folder for one result below `beside`: filled out of sight, then shown whole under its name."""

    def __init__(self, beside: Path, strip_name: str):
        base = re.sub(r"[^\w.-]+", "-", strip_name).strip("-.")[:40] or "strip"
        name = f"{base}-{uuid.uuid4().hex[:8]}"
        self._parent = beside / FOLDER
        self.unfinished, self.folder = self._parent / f".{name}.part", self._parent / name

    def open(self) -> None:
        """Make the hidden folder; `Trouble` where that is impossible."""
        try:
            self.unfinished.mkdir(parents=True)
        except OSError as error:
            raise _cannot_write(self._parent, error) from error

    def show(self) -> None:
        """Give the filled folder its name; where that is impossible the files stay where they are, and `folder` says so.

        On Windows no folder can be renamed while a virus scanner reads in it.
        """
        for _ in range(_RENAMES):
            with contextlib.suppress(OSError):
                os.replace(self.unfinished, self.folder)
                return
            time.sleep(_PAUSE)
        self.folder = self.unfinished

    def discard(self) -> None:
        """Remove what is unfinished, and the folder around it if nothing else is in it."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        try:
            self._parent.rmdir()
        except OSError:
            pass  # other results are in it, or it never was


def insert(source: strips.Source, frames: list[Path], origin: Origin) -> str:
    """Put the frames over the strip that `source` describes, wherever that is now; the new strip's name.

    `Trouble` where the strip is gone or no channel is free.
    """
    strip = strips.find(source)
    if strip is None:
        raise Trouble("'{name}' is no longer in this file.", name=source.name)
    first = source.first + round(compat.content_start(strip) - source.content_start)
    holder = strips.container(strip)
    channel = strips.free_channel(holder, strip.channel, first, first + len(frames))
    was_active = strip.id_data.sequence_editor.active_strip
    result = compat.strips(holder).new_image(
        name=f"{strip.name} FateZero",
        filepath=bpy.path.relpath(str(frames[0])),
        channel=channel,
        frame_start=first,
        fit_method="FIT",
    )
    for path in frames[1:]:
        result.elements.append(path.name)
    result.blend_type = "ALPHA_OVER"
    result[TAG] = origin.as_properties()
    result.select = False  # whoever goes on working keeps the selection that they have
    strip.id_data.sequence_editor.active_strip = was_active
    push_undo("FateZero: Edit Strip")
    return result.name


def origin_of(strip) -> Origin | None:
    """What made the strip, if FateZero did."""
    tag = strip.get(TAG)
    if tag is None:
        return None
    values = tag.to_dict()
    values.pop("seed", None)
    return Origin(**values)


def settings_of(origin: Origin) -> dict:
    """The settings as plain values."""
    return json.loads(origin.settings)


def push_undo(message: str) -> None:
    """Let the user undo what was just done; a timer has no window of its own, so it takes the first."""
    for window in bpy.context.window_manager.windows:
        with bpy.context.temp_override(window=window, screen=window.screen, area=window.screen.areas[0]):
            bpy.ops.ed.undo_push(message=message)
        return


def _cannot_write(folder: Path, error: OSError) -> Trouble:
    return Trouble(
        "The result cannot be written to {folder}: {reason}.",
        "Make room there or save the .blend elsewhere, then edit the strip again.",
        folder=folder,
        reason=error.strerror,
    )
