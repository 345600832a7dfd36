"""What engine is installed in the add-on's own folder, and whether it is the one that the extension carries.
Without bpy."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from pathlib import Path

import msgspec

from .engine_process import venv_python
from .protocol.errors import UNREADABLE

_NOTE = "fatezero-engine.json"


class Parts(msgspec.Struct, frozen=True):
    """What an environment is made from: SHA-256 of the engine's wheel and of the requirements, as an extension has
    them, and what is computed on."""

    wheel: str
    requirements: str
    device: str = ""


class Note(msgspec.Struct, frozen=True):
    """What is kept in an environment about itself."""

    parts: Parts
    version: str
    size: int
    """Bytes on disk."""


def wheel_of(extension: Path) -> Path | None:
    """The engine's wheel in the extension's folder; None in a copy of the sources."""
    return next(iter(sorted(extension.glob("wheels-engine/fatezero_vse_engine-*.whl"))), None)


def requirements_of(extension: Path) -> Path:
    """The list of what the engine needs, in the extension's folder."""
    return extension / "requirements" / "engine.txt"


def version_of(wheel: Path) -> str:
    """The engine's version, from its wheel's name."""
    return wheel.name.split("-")[1]


@functools.cache
def carried(extension: Path) -> Parts | None:
    """What the extension would install; None where it carries no engine. It does not change while it is enabled."""
    wheel = wheel_of(extension)
    if wheel is None:
        return None
    return Parts(*(hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, requirements_of(extension))))


def note_down(target: Path, parts: Parts, version: str) -> None:
    """Keep in the environment `target` what it is made from."""
    (target / _NOTE).write_bytes(msgspec.json.encode(Note(parts, version, _size(target))))


def read(target: Path) -> Note | None:
    """What the environment `target` says about itself; None where there is none, or it was not made by this add-on."""
    path = target / _NOTE
    try:
        return _parsed(path, path.stat().st_mtime_ns) if venv_python(target).exists() else None
    except (OSError, *UNREADABLE):
        return None


def outdated(extension: Path, target: Path) -> str:
    """`engine` where only the engine itself differs from the extension's, `all` where its packages do; else nothing."""
    now, note = carried(extension), read(target)
    if now is None or not venv_python(target).exists():
        return ""
    if note is None or note.parts.requirements != now.requirements:
        return "all"
    return "engine" if note.parts.wheel != now.wheel else ""


def size(target: Path) -> int:
    """Bytes that the environment takes, as it has noted down or else as they are counted."""
    note = read(target)
    return note.size if note else _size(target)


def remove(target: Path) -> None:
    """Remove the environment; `OSError` where something in it is in use, and then all of it is still there."""
    going = target.with_name(target.name + ".removed")
    shutil.rmtree(going, ignore_errors=True)
    os.replace(target, going)
    shutil.rmtree(going, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


@functools.lru_cache(maxsize=1)
def _parsed(path: Path, _changed: int) -> Note:
    return msgspec.json.decode(path.read_bytes(), type=Note)
