"""8-bit PNG pictures, read and written without a datablock in the user's file. Without bpy."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from .trouble import Trouble

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Samples of a pixel by colour type: grey, RGB, grey and alpha, RGBA."""
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


@dataclass(frozen=True)
class Picture:
    """Pixels of 8-bit samples, the top row first: `channels` is 1 (grey), 2 (and alpha), 3 (RGB) or 4 (and alpha)."""

    width: int
    height: int
    channels: int
    data: bytes


def sampled(picture: Picture, part: tuple[int, int, int, int], size: tuple[int, int]) -> Picture:
    """Of a grey picture the part (left, top, width, height) in another `size`: each pixel is the nearest one's."""
    (left, top, width, height), (across, along) = part, size
    columns = [left + (2 * x + 1) * width // (2 * across) for x in range(across)]
    rows = [top + (2 * y + 1) * height // (2 * along) for y in range(along)]
    starts = (row * picture.width for row in rows)
    data = b"".join(bytes(picture.data[start + column] for column in columns) for start in starts)
    return Picture(across, along, 1, data)


def read(path: Path) -> Picture:
    """The picture in a file; see `decode`. `Trouble` where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise Trouble("The picture {path} cannot be read: {reason}.", path=path, reason=error.strerror) from error
    except ValueError as error:
        raise Trouble("The picture {path} cannot be shown: it is {reason}.", path=path, reason=error) from error


def decode(data: bytes) -> Picture:
    """An 8-bit picture that has no palette and is not interlaced; `ValueError` for any other."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("no PNG picture")
    parts: list[bytes] = []
    header, at = b"", len(_SIGNATURE)
    try:
        while True:
            length, kind = struct.unpack_from(">I4s", data, at)
            if kind == b"IEND":
                break
            if kind == b"IHDR":
                header = data[at + 8 : at + 8 + length]
            elif kind == b"IDAT":
                parts.append(data[at + 8 : at + 8 + length])
            at += 12 + length
        width, height, depth, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if depth != 8 or colours not in _CHANNELS or interlaced:
            raise ValueError("of a kind of PNG that is not used here")
        rows = zlib.decompress(b"".join(parts))
    except (struct.error, zlib.error) as error:
        raise ValueError("a PNG picture that was cut off") from error
    channels = _CHANNELS[colours]
    if len(rows) != height * (1 + width * channels):
        raise ValueError("a PNG picture that was cut off")
    return Picture(width, height, channels, _unfilter(rows, width * channels, channels))


def encode(picture: Picture) -> bytes:
    """A PNG file."""
    size = picture.width * picture.channels
    rows = b"".join(b"\0" + picture.data[at : at + size] for at in range(0, len(picture.data), size))
    colours = {channels: kind for kind, channels in _CHANNELS.items()}[picture.channels]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, colours, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 4)) + _chunk(b"IEND", b"")
    return _SIGNATURE + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _unfilter(filtered: bytes, size: int, step: int) -> bytes:
    """Undo the filters of rows of `size` bytes, each behind its filter's number: PNG specification, 9.2.

    `step` bytes are a pixel. What is left of a row and above the first one counts as 0.
    """
    above, rows = bytes(size), []
    for at in range(0, len(filtered), 1 + size):
        kind, row = filtered[at], filtered[at + 1 : at + 1 + size]
        if kind == _SUB:
            told = bytearray(size)
            for channel in range(step):
                told[channel::step] = bytes(accumulate(row[channel::step], lambda left, new: left + new & 255))
            row = bytes(told)
        elif kind == _UP:
            row = bytes([new + up & 255 for new, up in zip(row, above)])
        elif kind == _AVERAGE:
            row = _average(row, above, step)
        elif kind == _PAETH:
            row = _paeth(row, above, step)
        elif kind != _NONE:
            raise ValueError("a PNG picture that was damaged")
        rows.append(row)
        above = row
    return b"".join(rows)


def _average(row: bytes, above: bytes, step: int) -> bytes:
    told = bytearray(step) + row
    for at, up in enumerate(above):
        told[at + step] = told[at + step] + (told[at] + up >> 1) & 255
    return bytes(told[step:])


def _paeth(row: bytes, above: bytes, step: int) -> bytes:
    told = bytearray(step) + row
    for at, (up, corner) in enumerate(zip(above, bytes(step) + above)):
        left = told[at]
        to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        if to_left <= to_up and to_left <= to_corner:
            nearest = left
        else:
            nearest = up if to_up <= to_corner else corner
        told[at + step] = told[at + step] + nearest & 255
    return bytes(told[step:])
