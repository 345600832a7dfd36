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
    """An engine's folder, made if it is missing and locked until `close`; `EditError` where that cannot be."""

    def __init__(self, path: Path):
        self.path = path
        self.journal = path / "journal.sqlite3"
        self.logs = path / "logs"
        self.log = self.logs / LOG_NAME
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(path / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EditError(
                "cannot-write",
                f"The engine's folder {path} cannot be used ({error.strerror}).",
                "Give it another one with --home.",
            ) from error
        try:
            _lock(self._lock)
        except OSError as error:
            os.close(self._lock)
            raise EditError(
                "already-running",
                f"Another engine already serves {path}.",
                "Use that one, end it first, or give this one another folder with --home.",
            ) from error

    def close(self) -> None:
        """Let another engine have the folder."""
        os.close(self._lock)

    def worker_log(self) -> BinaryIO:
        """The worker's log, open for appending bytes."""
        path = self.logs / "worker.log"
        if path.exists() and path.stat().st_size > logs.MAX_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def _lock(descriptor: int) -> None:
    """Lock an open file against other processes; the system lets go of it when this process ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
