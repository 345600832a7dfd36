"""Jobs that outlive Blender: one small file for each, in a folder that belongs to one running Blender at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import Literal

import msgspec

from .protocol.messages import Task
from .protocol.private import write_private
from .protocol.settings import EditSettings
from .protocol.tuning import Tuning
from .strips import Source

log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to find a job again at its engine and to place its result."""

    job_id: str
    engine: str
    """Which engine has it: a remote one's address, or nothing for the local one."""
    begun: float
    """When, in seconds since 1970: what puts jobs in order."""
    document: Path
    """The .blend that it was begun in."""
    source: Source
    settings: EditSettings
    state: Literal["sending", "sent", "arrived", "over"]
    """`sending`: the engine may have it; `sent`: it has; `arrived`: the files are here, the strip is not yet;
    `over`: nothing is to be done here any more, but the engine does not know."""
    tell: Literal["", "taken", "forget"] = ""
    """What the engine has yet to be told."""
    landing: Path | None = None
    """The result's folder, from when it is first written to."""
    digest: str = ""
    made_by: str = ""
    """The engine's version, once the result is here."""
    frames: int = 0
    """How many the result has."""
    notes: list[str] = []
    task: Task = "edit"
    replaces: str = ""
    """The job whose result is made anew, or nothing."""
    fingerprint: str = ""
    """What the strip looked like when the job was begun."""
    tuning: Tuning | None = None
    """What a tuning makes."""
    take_model: bool = False
    """Whether the panel shall take the model that it makes."""


class Shelf:
    """The records of this Blender's jobs, and a lock by which other Blenders know that it lives.

    Below `folder` each Blender has a folder for its records, and beside it a file that it keeps locked.
    """

    def __init__(self, folder: Path):
        """Raises `OSError`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._all, self._own = folder, folder / uuid.uuid4().hex
        self._lock = _hold(self._own)
        self._own.mkdir(mode=0o700)

    def put(self, record: Record) -> None:
        """Write a job's record, whole or not at all. Raises `OSError`."""
        write_private(self._path(record.job_id), msgspec.json.encode(record, enc_hook=_encode))

    def remove(self, job_id: str) -> None:
        """Drop a job's record, if there is one."""
        with contextlib.suppress(OSError):
            self._path(job_id).unlink()

    def adopt(self) -> list[Record]:
        """Take over, and return, what Blenders that are gone have left; of two that try at once, one gets each."""
        found = []
        for folder in sorted(path for path in self._all.iterdir() if path.is_dir()):
            try:
                lock = _hold(folder)
            except OSError:
                continue  # its Blender lives, or another one is just doing this
            found += [record for path in sorted(folder.glob("*.json")) if (record := self._take(path))]
            for path in folder.glob(".*"):
                path.unlink(missing_ok=True)  # records that were being written
            _remove(folder, lock)
        return found

    def close(self) -> None:
        """Leave what records there are to whoever comes next."""
        if list(self._own.glob("*.json")):
            os.close(self._lock)
        else:
            _remove(self._own, self._lock)

    def _path(self, job_id: str) -> Path:
        return self._own / f"{job_id}.json"

    def _take(self, path: Path) -> Record | None:
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record, dec_hook=_decode)
            os.replace(path, self._path(record.job_id))
            return record
        except OSError as error:
            log.warning("the record %s cannot be taken over: %s", path, error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s is no record of a job, and is removed: %s", path, error)
            path.unlink(missing_ok=True)
        return None


def all_in(folder: Path) -> list[Record]:
    """The records below `folder`, those of other Blenders too, oldest first; they are left where they are."""
    found = []
    for path in folder.glob("*/*.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Record, dec_hook=_decode))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s cannot be read: %s", path, error)  # whoever owns it may have removed it just now
    return sorted(found, key=lambda record: record.begun)


def _encode(path: Path) -> str | list[int]:
    """A path as text; as its bytes where these are none, which Linux allows."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return list(os.fsencode(path))


def _decode(kind: type, value: str | list[int]):
    return kind(value if isinstance(value, str) else os.fsdecode(bytes(value)))


def _hold(folder: Path) -> int:
    """Lock the file beside a Blender's folder until it is closed or this process ends; `OSError` where it is locked."""
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: Path, lock: int) -> None:
    """Remove a Blender's empty folder and the file beside it, and let go of that."""
    with contextlib.suppress(OSError):
        folder.rmdir()
    os.close(lock)
    if not folder.exists():
        with contextlib.suppress(OSError):
            folder.with_suffix(".lock").unlink()
