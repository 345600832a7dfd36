"""Frames as files on the client's side: digests and chunks on the way out, verified PNG files on the way in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import limits
from .errors import ProtocolError, full_disk
from .messages import JobStatus


@dataclass(frozen=True)
class Fetched:
    """A job's result on disk: `frames` in order, and for each mask word one mask per frame."""

    frames: list[Path]
    masks: dict[str, list[Path]]

    def pairs(self, status: JobStatus) -> Iterator[tuple[str, Path]]:
        """Each blob of `status` and the file it goes into."""
        yield from zip(status.frames, self.frames)
        for word, paths in self.masks.items():
            yield from zip(status.masks[word], paths)


def plan(status: JobStatus, folder: Path) -> Fetched:
    """Where the blobs of `status` go below `folder`."""
    masks, taken = {}, set()
    for word, blobs in status.masks.items():
        name = slug(word, taken)
        taken.add(name)
        masks[word] = _numbered(folder / "masks" / name, len(blobs))
    return Fetched(_numbered(folder / "frames", len(status.frames)), masks)


def slug(word: str, taken: Iterable[str] = ()) -> str:
    """A folder's name for `word`, safe on every platform and none of `taken`."""
    base = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:40] or "word"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def digest(path: Path) -> str:
    """SHA-256 of a frame's file, in hex; `ProtocolError` with code `cannot-read` or `over-limit`."""
    if size(path) > limits.MAX_BLOB_BYTES:
        raise limits.over_limit(f"bytes in {path.name}", size(path), limits.MAX_BLOB_BYTES, "Use smaller frames.")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _cannot_read(path, error) from error


def size(path: Path) -> int:
    """Bytes in a file, at least 1."""
    try:
        found = os.stat(path).st_size
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not found:
        raise ProtocolError("cannot-read", f"The frame {path} is an empty file.", "Export the frames again.")
    return found


def chunk(path: Path, offset: int) -> bytes:
    """The chunk of a file that begins at byte `offset`."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(limits.CHUNK_BYTES)
    except OSError as error:
        raise _cannot_read(path, error) from error


def has(path: Path, blob: str) -> bool:
    """Whether the file is there with exactly the bytes that `blob` names."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob
    except OSError:
        return False


def write(path: Path, blob: str, pieces: Iterable[bytes]) -> None:
    """Write `pieces` to `path`, which appears only when all are there and their digest is `blob`."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    sha = hashlib.sha256()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            for piece in pieces:
                sha.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if sha.hexdigest() != blob:
            raise ProtocolError(
                "digest-mismatch", f"{path.name} arrived with other bytes than the engine named.", "Fetch it again."
            )
        os.replace(temporary, path)
    except OSError as error:
        code, why = ("disk-full", "the disk is full") if full_disk(error) else ("cannot-write", error.strerror)
        raise ProtocolError(
            code, f"{path} cannot be written: {why}.", "Make room there or save elsewhere, then fetch it again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _numbered(folder: Path, count: int) -> list[Path]:
    return [folder / f"{number:05}.png" for number in range(1, count + 1)]


def _cannot_read(path: Path, error: OSError) -> ProtocolError:
    return ProtocolError(
        "cannot-read", f"The frame {path} cannot be read ({error.strerror}).", "Export the frames again."
    )
