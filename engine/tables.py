"""Tables of a clip's frames on the disk, of which an edit reads and writes a few frames at a time: none is ever in memory.

A file that is kept holds tables behind a digest of them and of a key that says what they are; a file that is damaged, cut
short or somebody else's is as good as none. A file has its name only once it is whole; no write waits for the disk, as the
digest tells what a power failure has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from protocol.errors import full_disk

from .errors import EditError
from .fatezero.frames import Frames

_DIGEST_BYTES = 32
_BLOCK = 1 << 20
"""Bytes that are copied at a time,"""
_COPIED = 8
"""or frames."""
_TYPES = {torch.float32: "F32", torch.int64: "I64", torch.int16: "I16", torch.bool: "BOOL"}
"""By the names that safetensors has for them: behind its digest, a file is one of these."""


class Table(ABC):
    """(F, ...), in a file: parts of it come as tensors of their own. EditError where the disk does not take one."""

    device = torch.device("cpu")

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, offset: int):
        self.shape, self.dtype, self._offset = tuple(shape) or (1,), dtype, offset
        self._frame_bytes = math.prod(self.shape[1:]) * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """On the disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, part: slice | Sequence[int] | Tensor, /) -> Tensor:
        frames = _numbers(part, len(self))
        out = torch.empty(len(frames), *self.shape[1:], dtype=self.dtype)
        with self._opened() as file:
            for place, first, count in _runs(frames):
                file.seek(self._offset + first * self._frame_bytes)
                self._fill(file, _bytes_of(out[place : place + count]))
        return out

    def blocks(self) -> Iterator[memoryview]:
        """All bytes in their order."""
        with self._opened() as file:
            file.seek(self._offset)
            for start in range(0, self.nbytes, _BLOCK):
                block = memoryview(bytearray(min(_BLOCK, self.nbytes - start)))
                self._fill(file, block)
                yield block

    @abstractmethod
    def _opened(self) -> AbstractContextManager[BinaryIO]:
        """The file, unbuffered."""

    def _fill(self, file: BinaryIO, view: memoryview) -> None:
        while view:
            read = file.readinto(view)
            if not read:
                raise EOFError
            view = view[read:]


class ScratchTable(Table):
    """One that is being made, in a file without a name, which is gone with it."""

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype):
        super().__init__(shape, dtype, 0)
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  it goes when this does
        except OSError as error:
            raise cannot_keep(error, folder) from error

    def __setitem__(self, part: slice | Sequence[int] | Tensor, values: Tensor, /) -> None:
        try:
            for place, first, count in _runs(_numbers(part, len(self))):
                self._file.seek(first * self._frame_bytes)
                view = _bytes_of(values[place : place + count])
                while view:
                    view = view[self._file.write(view) :]
        except OSError as error:
            raise cannot_keep(error, self._folder) from error

    def _opened(self) -> AbstractContextManager[BinaryIO]:
        return nullcontext(self._file)

    @classmethod
    def copy_of(cls, table: Table, folder: Path) -> ScratchTable:
        """What `table` has, whatever becomes of that one's file."""
        made = cls(folder, table.shape, table.dtype)
        for start in range(0, len(table), _COPIED):
            part = slice(start, min(start + _COPIED, len(table)))
            made[part] = table[part]
        return made


class KeptTable(Table):
    """One of a file that is kept, and was found to be whole. `lost`: what is raised where it is so no more."""

    def __init__(
        self, path: Path, shape: Sequence[int], dtype: torch.dtype, offset: int, lost: Callable[[], Exception]
    ):
        super().__init__(shape, dtype, offset)
        self._path, self._lost = path, lost

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with open(self._path, "rb", buffering=0) as file:
                yield file
        except (OSError, EOFError) as error:
            raise self._lost() from error


Lost = Callable[[], Exception]


def write(path: Path, key: str, tables: Mapping[str, Frames], temporaries: Path, lost: Lost) -> dict[str, KeptTable]:
    """Write a file of tables, there whole or not at all, and give them as it has them; EditError where the disk does not
    take it."""
    ordered = sorted(tables.items(), key=lambda item: -item[1].dtype.itemsize)  # so that each is aligned
    header = _header(ordered)
    write_whole(path, key, chain((header,), *(_blocks(table) for _, table in ordered)), temporaries)
    return _tables(path, header, lost)


def write_whole(path: Path, key: str, blocks: Iterable[bytes | memoryview], temporaries: Path) -> None:
    """Write a file of `blocks` behind their digest, there whole or not at all; EditError where the disk does not take it."""
    temporary, sha = temporaries / f"writing-{uuid.uuid4().hex}", _sha(key)
    try:
        for folder in (temporaries, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(bytes(_DIGEST_BYTES))
            for block in blocks:
                sha.update(block)
                file.write(block)
            file.seek(0)
            file.write(sha.digest())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_keep(error, path.parent) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_whole(path: Path, key: str) -> bytes | None:
    """What `write_whole` has written, in memory; None where there is no such file, or it is not that."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, sha = data[_DIGEST_BYTES:], _sha(key)
    sha.update(body)
    return body if data[:_DIGEST_BYTES] == sha.digest() else None


def read(path: Path, key: str, lost: Lost) -> dict[str, KeptTable] | None:
    """The tables of a file; None where there is no such file, or it is not what was written for `key`."""
    try:
        with open(path, "rb", buffering=0) as file:
            digest, sha = file.read(_DIGEST_BYTES), _sha(key)
            while block := file.read(_BLOCK):
                sha.update(block)
            if digest != sha.digest():
                return None
            file.seek(_DIGEST_BYTES)
            length = file.read(8)
            header = length + file.read(int.from_bytes(length, "little"))
    except OSError:
        return None
    return _tables(path, header, lost)


def cannot_keep(error: OSError, folder: Path) -> EditError:
    """What a user is told where what is kept cannot be written."""
    if full_disk(error):
        return EditError("disk-full", f"The disk that holds {folder} is full.", "Make room on it, then try again.")
    return EditError(
        "cannot-write", f"The engine cannot write to {folder} ({error.strerror}).", "Check the folder's permissions."
    )


def _header(tables: Sequence[tuple[str, Frames]]) -> bytes:
    described, end = {}, 0
    for name, table in tables:
        begin, end = end, end + table.nbytes
        described[name] = {"dtype": _TYPES[table.dtype], "shape": [*table.shape], "data_offsets": [begin, end]}
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _tables(path: Path, header: bytes, lost: Lost) -> dict[str, KeptTable]:
    types, begin = {name: dtype for dtype, name in _TYPES.items()}, _DIGEST_BYTES + len(header)
    return {
        name: KeptTable(path, each["shape"], types[each["dtype"]], begin + each["data_offsets"][0], lost)
        for name, each in json.loads(header[8:]).items()
    }


def _blocks(table: Frames) -> Iterator[memoryview]:
    if isinstance(table, Table):
        yield from table.blocks()
    else:
        yield _bytes_of(table)


def _sha(key: str):
    return hashlib.sha256(f"{len(key)} {key}".encode())


def _numbers(part: slice | Sequence[int] | Tensor, frames: int) -> Sequence[int]:
    if isinstance(part, slice):
        return range(frames)[part]
    return part.tolist() if isinstance(part, Tensor) else part


def _runs(frames: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Frames that lie beside each other: where they begin among `frames`, the first of them, and how many they are."""
    begin = 0
    for place in range(1, len(frames) + 1):
        if place == len(frames) or frames[place] != frames[place - 1] + 1:
            yield begin, frames[begin], place - begin
            begin = place


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
