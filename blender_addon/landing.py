"""Where a result comes to lie: a folder beside the .blend, filled out of sight and shown whole. Without bpy."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from pathlib import Path

from .protocol.durable import sync
from .trouble import Trouble

FOLDER = "fatezero"
"""Beside the .blend: every result has a folder of its own in it."""
_RENAMES, _PAUSE = 5, 0.02
"""How often a folder's renaming is tried, and seconds between."""


class Landing:
    """The folder of one result: `unfinished` until it is shown under its name `folder`.

    A later session can go on with what an earlier one has left of it.
    """

    def __init__(self, folder: Path):
        self.folder, self.unfinished = folder, folder.with_name(f".{folder.name}.part")

    @classmethod
    def beside(cls, blend: Path, strip_name: str) -> Landing:
        """A new one for a result of the strip of that name, in the .blend's folder."""
        base = re.sub(r"[^\w.-]+", "-", strip_name).strip("-.")[:40] or "strip"
        return cls(blend.parent / FOLDER / f"{base}-{uuid.uuid4().hex[:8]}")

    def is_beside(self, blend: Path) -> bool:
        """Whether it is in the .blend's folder."""
        return self.folder.parent == blend.parent / FOLDER

    def open(self) -> Path:
        """The folder to fill, made if it is missing; `Trouble` where that is impossible."""
        if self.folder.is_dir():
            return self.folder  # it was shown, and the session that did so could not note that down
        try:
            self.unfinished.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder.parent, error) from error
        return self.unfinished

    def show(self) -> Path:
        """Give the filled folder its name, for good; returns where the files are then. `Trouble` from the disk.

        On Windows no folder can be renamed while a virus scanner reads in it; the files stay where they are then.
        """
        if not self.folder.is_dir() and not self._rename():
            return self.unfinished
        try:
            for folder in (self.folder.parent, *(path for path in self.folder.rglob("*") if path.is_dir())):
                sync(folder)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        return self.folder

    def _rename(self) -> bool:
        for _ in range(_RENAMES):
            with contextlib.suppress(OSError):
                os.replace(self.unfinished, self.folder)
                return True
            time.sleep(_PAUSE)
        return False

    def discard(self) -> None:
        """Remove what there is of a result that nobody wants, and the folder around it if nothing else is in it."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        _remove_if_empty(self.folder.parent)


def probe(blend: Path) -> None:
    """Find out whether results could be written beside the .blend; `Trouble` where they could not. Leaves nothing."""
    folder = blend.parent / FOLDER
    trial = folder / f".{uuid.uuid4().hex}"
    try:
        folder.mkdir(exist_ok=True)
        trial.write_bytes(b"\0")
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()
        _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # other results are in it, or it never was
        folder.rmdir()


def cannot_write(folder: Path, error: OSError) -> Trouble:
    """What is said where a result's folder cannot be written to."""
    return Trouble(
        "The result cannot be written to {folder}: {reason}.",
        "Make room or allow writing there, or save the .blend elsewhere; then try again.",
        folder=folder,
        reason=error.strerror,
    )
