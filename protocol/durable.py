"""What must still be there after the power has failed."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or the names in a folder. Raises `OSError`.

    Windows cannot be told so of folders, nor of files that may only be read.
    """
    windows = sys.platform == "win32"
    with contextlib.suppress(PermissionError) if windows else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Wait until the disk has a folder with all that is in it. Raises `OSError`."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
