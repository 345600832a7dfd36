"""The folder that one engine keeps its files in, private to its user and held by one engine at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from engine.errors import EditError

from . import logs

LOG_NAME = "engine.log"


class Home:
    """An engine's folder, made if it is missing and locked until `close`; `EditError` where that cannot be.

    `files` is where frames, results, caches and checkpoints are, and what model names mean: the same folder, unless
    `shared` is one that workers on other machines see as well.
    """

    def __init__(self, path: Path, shared: Path | None = None):
        self.path, self.files = path, shared or path
        self._locks = [_held(folder) for folder in dict.fromkeys((self.path, self.files))]
        self.journal = path / "journal.sqlite3"
        self.logs = path / "logs"
        self.log = self.logs / LOG_NAME

    def close(self) -> None:
        """Let another engine have the folder."""
        for lock in self._locks:
            os.close(lock)

    def worker_log(self) -> BinaryIO:
        """The worker's log, open for appending bytes."""
        path = self.logs / "worker.log"
        if path.exists() and path.stat().st_size > logs.MAX_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def _held(path: Path) -> int:
    """The descriptor that keeps a folder, made if it is missing, from other engines."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EditError(
            "cannot-write",
            f"The engine's folder {path} cannot be used ({error.strerror}).",
            "Give it another one with --home.",
        ) from error
    try:
        _lock(lock)
    except OSError as error:
        os.close(lock)
        raise EditError(
            "already-running",
            f"Another engine already serves {path}.",
            "Use that one, end it first, or give this one another folder with --home.",
        ) from error
    return lock


def _lock(descriptor: int) -> None:
    """Lock an open file against other processes; the system lets go of it when this process ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
