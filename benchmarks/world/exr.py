"""Reads the one kind of OpenEXR file that ``render`` writes: single part, scan lines, no compression.

Blender gives Python no other way to the passes of a render than a file, and its Python has no OpenEXR module.
Layout: openexr.com, 'OpenEXR File Layout'.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

_DTYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def read_exr(path: str | Path) -> dict[str, np.ndarray]:
    """Channel name to (height, width) array, top row first.

    Raises ValueError for any file that ``render`` would not have written.
    """
    data = Path(path).read_bytes()
    magic, version = struct.unpack_from("<II", data)
    if magic != 20000630 or version & 0x1A00:  # tiled, deep or multi-part
        raise ValueError(f"{path} is not a single-part scan line OpenEXR file")
    header, position = _read_header(data, 8)
    if header["compression"] != b"\0":
        raise ValueError(f"{path} is compressed; render with exr_codec 'NONE'")
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    row = np.dtype([("y", "<i4"), ("size", "<i4")] + [(n, d, (width,)) for n, d in _channels(header["channels"])])
    rows = np.frombuffer(data, row, count=height, offset=position + 8 * height)
    return {name: rows[name].copy() for name in row.names[2:]}


def _read_header(data: bytes, position: int) -> tuple[dict[str, bytes], int]:
    header = {}
    while data[position]:
        name, position = _read_string(data, position)
        _, position = _read_string(data, position)  # the attribute's type
        (size,) = struct.unpack_from("<i", data, position)
        header[name] = data[position + 4 : position + 4 + size]
        position += 4 + size
    return header, position + 1


def _channels(data: bytes) -> list[tuple[str, np.dtype]]:
    channels, position = [], 0
    while data[position]:
        name, position = _read_string(data, position)
        channels.append((name, _DTYPES[struct.unpack_from("<i", data, position)[0]]))
        position += 16
    return channels


def _read_string(data: bytes, position: int) -> tuple[str, int]:
    end = data.index(b"\0", position)
    return data[position:end].decode(), end + 1
