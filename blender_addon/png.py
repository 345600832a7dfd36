"""8-bit PNG pictures as numpy arrays, without a datablock in the user's file. Without bpy."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from .trouble import Trouble

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Samples of a pixel by colour type: grey, RGB, grey and alpha, RGBA."""
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


def read(path: Path) -> np.ndarray:
    """The picture in a file; see `decode`. `Trouble` where it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise Trouble("The picture {path} cannot be read: {reason}.", path=path, reason=error.strerror) from error
    except ValueError as error:
        raise Trouble("The picture {path} cannot be shown: it is {reason}.", path=path, reason=error) from error


def decode(data: bytes) -> np.ndarray:
    """(H, W, C) uint8, top row first, of an 8-bit grey, RGB or RGBA picture that is not interlaced; else `ValueError`."""
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
        channels = _CHANNELS[colours]
        rows = np.frombuffer(zlib.decompress(b"".join(parts)), np.uint8).reshape(height, 1 + width * channels)
    except (struct.error, zlib.error) as error:
        raise ValueError("a PNG picture that was cut off") from error
    return _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, channels))


def encode(pixels: np.ndarray) -> bytes:
    """A PNG file of (H, W) grey or (H, W, 3 or 4) uint8 pixels, top row first."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, -1)
    rows = np.empty((height, 1 + samples.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=rows[1:, 1:])
    colours = 0 if pixels.ndim == 2 else {3: 2, 4: 6}[pixels.shape[2]]
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 4)) + _chunk(b"IEND", b"")
    return _SIGNATURE + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _unfilter(filters: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Undo the filters (H) of the rows (H, W, C): PNG specification, 9.2.

    A sample is told from those to its left, above, and above to the left. So all samples of one antidiagonal are told
    at once, from the two antidiagonals before. Row `y` is laid `y` to the right, which makes those columns.
    """
    height, width, channels = rows.shape
    if (filters == _NONE).all():
        return rows.copy()
    if (filters[1:] == _UP).all() and filters[0] in (_NONE, _UP):
        return np.add.accumulate(rows, axis=0, dtype=np.uint8)
    slanted = np.zeros((width + height + 1, height + 1, channels), np.int16)  # two zeros around what there is
    y, x = np.mgrid[:height, :width]
    slanted[x + y + 2, y + 1] = rows
    uses = [(filters == kind)[:, None] for kind in (_SUB, _UP, _AVERAGE, _PAETH)]
    for diagonal in range(width + height - 1):
        first, end = max(0, diagonal - width + 1), min(height, diagonal + 1)
        left = slanted[diagonal + 1, first + 1 : end + 1].copy()
        above, corner = slanted[diagonal + 1, first:end], slanted[diagonal, first:end]
        if diagonal < height:
            left[-1] = 0  # the picture's left edge
            corner = corner.copy()
            corner[-1] = 0
        sub, up, average, paeth = (use[first:end] for use in uses)
        to_left, to_above = np.abs(above - corner), np.abs(left - corner)
        to_corner = np.abs(left + above - 2 * corner)
        nearest = np.where(
            (to_left <= to_above) & (to_left <= to_corner), left, np.where(to_above <= to_corner, above, corner)
        )
        told = sub * left + up * above + average * ((left + above) >> 1) + paeth * nearest
        here = slanted[diagonal + 2, first + 1 : end + 1]
        np.bitwise_and(here + told, 255, out=here)
    return slanted[x + y + 2, y + 1].astype(np.uint8)
