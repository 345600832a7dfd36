"""PNG files that other programs have written come in as they are, and ours are read by them."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from tests.blender_addon.conftest import read_image
from tests.blender_addon.masks import array, picture


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    steps = np.random.default_rng(height).integers(-3, 4, (height, width, channels))
    return np.cumsum(steps, axis=1).astype(np.uint8)


def filtered(pixels: np.ndarray, kinds: list[int]) -> bytes:
    """A PNG file whose rows use these filters, by the specification's own formulas (9.2), sample by sample."""
    height, width, channels = pixels.shape
    rows = np.zeros((height + 1, (width + 1) * channels), int)
    rows[1:, channels:] = pixels.reshape(height, -1)
    data = b""
    for y in range(1, height + 1):
        kind, row = kinds[(y - 1) % len(kinds)], []
        for x in range(channels, rows.shape[1]):
            a, b, c = rows[y, x - channels], rows[y - 1, x], rows[y - 1, x - channels]
            p = a + b - c
            paeth = min(((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c)))[2]
            row.append((rows[y, x] - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
        data += bytes([kind]) + bytes(int(value) for value in row)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    colours = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    packed = zlib.compress(data)
    body = chunk(b"IHDR", header) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", packed[:9]) + chunk(b"IDAT", packed[9:])
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("kinds", [[0], [1], [2], [3], [4], [4, 1, 3, 0, 2], [0, 2]], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (3, 7), (9, 1), (1, 9), (8, 8)], ids=str)
def test_every_filter(addon, kinds, size):
    for channels in (1, 2, 3, 4):
        pixels = smooth(*size, channels)
        assert np.array_equal(array(addon.png.decode(filtered(pixels, kinds))), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_blender_reads_what_is_written(addon, tmp_path, channels):
    pixels = smooth(11, 17, channels)
    if channels == 4:
        pixels[..., 3] = 255
    path = tmp_path / "picture.png"
    path.write_bytes(addon.png.encode(picture(addon, pixels)))
    assert np.array_equal(read_image(path)[..., :3], np.broadcast_to(pixels[..., :3], (11, 17, 3)))
    assert np.array_equal(array(addon.png.read(path)), pixels)


def test_what_cannot_be_read_is_said(addon, tmp_path):
    whole = addon.png.encode(picture(addon, smooth(5, 5, 1)))
    path = tmp_path / "picture.png"
    for data, words in (
        (b"GIF89a", "no PNG picture"),
        (whole[:50], "cut off"),
        (
            addon.png.encode(addon.png.Picture(5, 4, 1, bytes(20))).replace(b"\x05\0\0\0\x04", b"\x05\0\0\0\x05"),
            "cut off",
        ),
        (filtered(smooth(2, 2, 1), [0]).replace(b"tEXt", b"IDAT"), "cut off"),
        (whole[:24] + b"\x10" + whole[25:], "of a kind of PNG that is not used here"),
    ):
        path.write_bytes(data)
        with pytest.raises(addon.trouble.Trouble, match=words):
            addon.png.read(path)
    with pytest.raises(addon.trouble.Trouble, match="No such file"):
        addon.png.read(tmp_path / "none.png")
