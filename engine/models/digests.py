"""What a checkpoint is, in one digest, without reading gigabytes at every start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path


class Files:
    """The files that a checkpoint is loaded from, as they are now: to be made before they are read."""

    def __init__(self, files: Mapping[str, Path]):
        """`files` by what they are in the checkpoint, such as `unet/config.json`."""
        self._files = dict(sorted(files.items()))
        self._stamps = {path: _stamp(path) for path in self._files.values()}

    def unchanged(self) -> bool:
        """Whether all of them are as they were then, as far as sizes and times tell."""
        try:
            return all(_stamp(path) == stamp for path, stamp in self._stamps.items())
        except OSError:
            return False

    def digest(self, remembered: Path) -> str:
        """SHA-256 in hex of what the files are and of their bytes.

        `remembered` is a file of digests by path, size and time of change, which is read and renewed. Files that have
        changed since they were loaded give a digest that nothing else has.
        """
        known, found = _read(remembered), {}
        try:
            for path, stamp in self._stamps.items():
                entry = known.get(str(path))
                if not entry or entry["stamp"] != stamp:
                    entry = {"stamp": stamp, "digest": _digest(path)}
                if _stamp(path) != stamp:
                    return uuid.uuid4().hex
                found[str(path)] = entry
        except OSError:
            return uuid.uuid4().hex
        if not found.items() <= known.items():
            _write(remembered, known | found)
        whole = hashlib.sha256()
        for part, path in self._files.items():
            whole.update(f"{part} {found[str(path)]['digest']}\n".encode())
        return whole.hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(remembered: Path) -> dict[str, dict]:
    try:
        known = json.loads(remembered.read_bytes())
        return {path: entry for path, entry in known.items() if {"stamp", "digest"} <= entry.keys()}
    except (OSError, ValueError, AttributeError):
        return {}


def _write(remembered: Path, known: dict[str, dict]) -> None:
    temporary = remembered.with_name(f".{remembered.name}.new")
    with contextlib.suppress(OSError):  # then the files are read again next time
        remembered.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known))
        os.replace(temporary, remembered)
