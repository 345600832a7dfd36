"""A small picture for each job in the list: its first frame, before and once it is there after."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import bpy.utils.previews

from . import folders

OLD = 7 * 24 * 3600.0
"""Seconds after which a job's picture that a Blender has left behind is removed."""

_pictures: bpy.utils.previews.ImagePreviewCollection | None = None


def keep(job_id: str, frame: Path) -> None:
    """Keep a frame as the job's picture, in place of an earlier one. A picture that cannot be kept is not missed."""
    drop(job_id)
    with contextlib.suppress(OSError):
        shutil.copyfile(frame, _path(job_id))


def icon(job_id: str) -> int:
    """The number of the job's picture as an icon; 0 where it has none."""
    if _pictures is None:
        return 0
    if job_id not in _pictures:
        path = _path(job_id)
        if not path.is_file():
            return 0
        _pictures.load(job_id, str(path), "IMAGE")
    return _pictures[job_id].icon_id


def drop(job_id: str) -> None:
    """Forget the job's picture."""
    if _pictures is not None and job_id in _pictures:
        del _pictures[job_id]
    with contextlib.suppress(OSError):
        _path(job_id).unlink()


def clean_up(wanted: set[str]) -> None:
    """Remove the pictures that are not wanted and so old that no running Blender shows them either."""
    for path in folders.thumbnails_folder().glob("*.png"):
        with contextlib.suppress(OSError):
            if path.stem not in wanted and time.time() - path.stat().st_mtime > OLD:
                drop(path.stem)


def _path(job_id: str) -> Path:
    return folders.thumbnails_folder() / f"{job_id}.png"


def register() -> None:
    global _pictures
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    global _pictures
    bpy.utils.previews.remove(_pictures)
    _pictures = None
