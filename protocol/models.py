"""Checkpoints by name. A path never travels: the wire carries a model's name, and a file on the engine's own machine,
which only its user can write, says what folder that name means."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

import msgspec

from .errors import UNREADABLE, ProtocolError
from .private import write_private
from .settings import BUILTIN_MODEL

FILE_NAME = "models.json"


def name_of(folder: Path) -> str:
    """The name that a checkpoint's folder goes by: its own, and a few digits that tell it from others of that name."""
    shown = re.sub(r"[^\w.-]+", "-", folder.name)[:60]
    return f"{shown}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"


def register(home: Path, folder: Path) -> str:
    """Let the engine that lives in `home` use the checkpoint in `folder`; returns its name. Raises `OSError`."""
    name, known = name_of(folder), _read(home)
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, "its name is not valid text", str(folder)) from error
    if known.get(name) != str(folder):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(home / FILE_NAME, msgspec.json.encode(known | {name: str(folder)}))
    return name


def known(home: Path) -> list[str]:
    """The names that may be asked for, the built-in model first."""
    return [BUILTIN_MODEL, *_read(home)]


def resolve(home: Path, name: str) -> str:
    """`builtin`, or the folder that `name` means; `ProtocolError('unknown-model')` where it was never registered."""
    if name == BUILTIN_MODEL:
        return name
    folder = _read(home).get(name)
    if folder is None:
        raise ProtocolError(
            "unknown-model",
            f"The engine knows no model '{name}'.",
            "Choose the checkpoint's folder again, or use the built-in model.",
        )
    return folder


def _read(home: Path) -> dict[str, str]:
    """What is registered; a file that is missing or damaged is an empty one, as registering again mends it."""
    try:
        return msgspec.json.decode((home / FILE_NAME).read_bytes(), type=dict[str, str])
    except (OSError, *UNREADABLE):
        return {}
