"""Frames as files on the client's side: digests and chunks on the way out, verified PNG files on the way in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import limits
from .errors import ProtocolError, full_disk
from .messages import JobStatus, SoftMask


@dataclass(frozen=True)
class Fetched:
    """A job's result on disk: `frames` in order, for each mask word one mask per frame, and one pack per frame."""

    frames: list[Path]
    masks: dict[str, list[Path]]
    packs: list[Path]
    soft_masks: list[SoftMask]
    """What each pack holds (see `packs.split`)."""

    def pairs(self, status: JobStatus) -> Iterator[tuple[str, Path]]:
        """Each blob of `status` and the file it goes into."""
        yield from zip(status.frames, self.frames)
        for word, paths in self.masks.items():
            yield from zip(status.masks[word], paths)
        yield from zip(status.packs, self.packs)


def plan(status: JobStatus, folder: Path) -> Fetched:
    """Where the blobs of `status` go below `folder`."""
    masks, taken = {}, set()
    for word, blobs in status.masks.items():
        name = slug(word, taken)
        taken.add(name)
        masks[word] = _numbered(folder / "masks" / name, len(blobs))
    packs = _numbered(folder / "packs", len(status.packs), ".pack")
    return Fetched(_numbered(folder / "frames", len(status.frames)), masks, packs, status.soft_masks)


def pictures(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder that end in one of `suffixes` (lower case), as a clip's frames: in the order of their names, of
    which digits count as numbers. Hidden ones, such as macOS leaves beside the real ones, are none. Raises `OSError`."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))
    return sorted(found, key=lambda path: (_by_numbers(path.name), path.name))


def _by_numbers(name: str) -> list[str | int]:
    """Text and numbers in turn, so that 2 comes before 10."""
    return [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r"(\d+)", name))]


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


def take(source: Path, blob: str, path: Path) -> bool:
    """Copy the file `source` to `path`, if it is there with exactly the bytes that `blob` names."""
    if not has(source, blob):
        return False
    try:
        _copy(source, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return True


def received(path: Path, blob: str) -> int:
    """Bytes that an earlier `Download` has left for `path`."""
    try:
        return _part(path, blob).stat().st_size
    except OSError:
        return 0


def start_anew(path: Path, blob: str) -> bool:
    """Remove what an earlier `Download` has left for `path`; whether there was anything."""
    try:
        _part(path, blob).unlink()
    except OSError:
        return False
    return True


class Download:
    """A blob on its way into a file, which appears only when all bytes are there and their digest is the blob's name.

    What has arrived stays beside `path` in a hidden file, so that a transfer that was cut off can go on.
    `ProtocolError` with code `disk-full`, `cannot-write` or `digest-mismatch`; then nothing stays.
    """

    def __init__(self, path: Path, blob: str):
        self._path, self._blob, self._part = path, blob, _part(path, blob)
        self._sha = hashlib.sha256()
        self.received = 0
        """Bytes that are there."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._part, "a+b")  # noqa: SIM115  kept open from piece to piece
            self._file.seek(0)
            while chunk := self._file.read(limits.CHUNK_BYTES):
                self._sha.update(chunk)
                self.received += len(chunk)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def add(self, offset: int, piece: bytes) -> None:
        """Append `piece`, which begins at byte `offset`; one that does not belong there is passed over."""
        if offset != self.received:
            return
        try:
            self._file.write(piece)
        except OSError as error:
            self._discard()
            raise _cannot_write(self._path, error) from error
        self._sha.update(piece)
        self.received += len(piece)

    def finish(self, paths: Iterable[Path]) -> None:
        """All bytes are there: put them into each of `paths`, of which `path` is one."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._sha.hexdigest() != self._blob:
                raise ProtocolError(
                    "digest-mismatch",
                    f"{self._path.name} arrived with other bytes than the engine named.",
                    "Fetch it again.",
                )
            for path in paths:
                if path != self._path:
                    _copy(self._part, path)
            os.replace(self._part, self._path)
        except OSError as error:
            raise _cannot_write(self._path, error) from error
        finally:
            self._discard()

    def close(self) -> None:
        """Leave what is there for a later try."""
        with contextlib.suppress(OSError):  # a full disk may refuse what is still buffered
            self._file.close()

    def _discard(self) -> None:
        self.close()
        with contextlib.suppress(OSError):
            self._part.unlink()


def _part(path: Path, blob: str) -> Path:
    return path.with_name(f".{path.name}.{blob[:16]}.part")


def _copy(source: Path, path: Path) -> None:
    """Copy a file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> ProtocolError:
    code, why = ("disk-full", "the disk is full") if full_disk(error) else ("cannot-write", error.strerror)
    return ProtocolError(
        code, f"{path} cannot be written: {why}.", "Make room there or save elsewhere, then fetch it again."
    )


def _numbered(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    return [folder / f"{number:05}{suffix}" for number in range(1, count + 1)]


def _cannot_read(path: Path, error: OSError) -> ProtocolError:
    return ProtocolError(
        "cannot-read", f"The frame {path} cannot be read ({error.strerror}).", "Export the frames again."
    )
