"""Several PNG files in one blob, one behind the other: as many small files cost a transfer each, and a place on a disk."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .errors import ProtocolError

_SIGNATURE, _END = b"\x89PNG\r\n\x1a\n", b"IEND"
_CHUNK = struct.Struct(">I4s")
_CHECKSUM_BYTES = 4


def split(data: bytes, count: int) -> list[bytes]:
    """The `count` PNG files in `data`, which may well be damaged inside; `ProtocolError('malformed')` for anything else."""
    pictures, at = [], 0
    while at < len(data):
        end = _end(data, at)
        pictures.append(data[at:end])
        at = end
    if len(pictures) != count:
        raise _malformed()
    return pictures


def _end(data: bytes, at: int) -> int:
    """Where the PNG file ends that begins at byte `at`."""
    if not data.startswith(_SIGNATURE, at):
        raise _malformed()
    at += len(_SIGNATURE)
    for kind, end in _chunks(data, at):
        if kind == _END:
            return end
    raise _malformed()


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """The kind of each chunk from byte `at` on, and where it ends."""
    while at + _CHUNK.size <= len(data):
        length, kind = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size + length + _CHECKSUM_BYTES
        if at > len(data):
            return
        yield kind, at


def _malformed() -> ProtocolError:
    return ProtocolError(
        "malformed",
        "The masks of a frame cannot be told apart.",
        "Check that the add-on and the engine come from the same release.",
    )
