"""The add-on's own folders, below the extension's user folder."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import bpy

from .protocol.endpoint import process_runs


def home_folder() -> Path:
    """Where a local engine keeps its files."""
    return _own("home", create=True)


def exports_folder() -> Path:
    """Where frames wait until they are sent."""
    return _own("exports", create=True)


def records_folder() -> Path:
    """Where jobs are noted down that outlive this Blender."""
    return _own("jobs", create=True)


def masks_folder() -> Path:
    """Where mask sets are kept; see `mask_sets`."""
    return _own("masks", create=True)


def thumbnails_folder() -> Path:
    """Where the jobs' small pictures are."""
    return _own("thumbnails", create=True)


def prompts_file() -> Path:
    """The user's earlier prompts, and those that are to stay."""
    return _own("") / "prompts.json"


def timings_file() -> Path:
    """How long earlier jobs took."""
    return _own("") / "timings.json"


def venv_folder() -> Path:
    """Where Install Engine puts the engine's environment."""
    return _own("engine")


def key_file() -> Path:
    """This client's own key pair, which remote engines know it by."""
    return _own("") / "client-key.json"


def export_folder(job_id: str) -> Path:
    """Where one job's frames wait; not made yet."""
    return exports_folder() / f"{os.getpid()}-{job_id}"


def early_folder() -> Path:
    """Where frames wait of results that are not whole yet; not made yet, and another one each time."""
    return exports_folder() / f"{os.getpid()}-early-{uuid.uuid4().hex}"


def remove_leftovers() -> None:
    """Remove what Blenders left in the exports' folder that were killed while they exported or fetched."""
    for folder in exports_folder().iterdir():
        pid = folder.name.partition("-")[0]
        if pid.isdecimal() and not process_runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _own(name: str, create: bool = False) -> Path:
    return Path(bpy.utils.extension_path_user(__package__, path=name, create=create))
