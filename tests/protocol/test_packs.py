"""Several PNG files in one blob come apart again, and nothing else does."""

from __future__ import annotations

import struct
import zlib

import pytest

from protocol import packs
from protocol.errors import ProtocolError


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(grey: bytes) -> bytes:
    """A PNG file one row high."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", len(grey), 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + grey)) + chunk(b"IEND")


PICTURES = [picture(b"\x00\x80"), picture(b"IEND\x89PNG\r\n\x1a\n"), picture(bytes(300))]


@pytest.mark.parametrize("count", range(4))
def test_what_was_put_together_comes_apart(count):
    assert packs.split(b"".join(PICTURES[:count]), count) == PICTURES[:count]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (PICTURES[0], 2),
        (PICTURES[0] + PICTURES[1], 1),
        (PICTURES[0][:-1], 1),
        (PICTURES[0] + b"\x89PNG", 1),
        (b"GIF89a" + PICTURES[0], 1),
        (PICTURES[0][:8] + b"\xff\xff\xff\xffIDAT", 1),
        (b"", 1),
    ],
    ids=["one too few", "one too many", "cut off", "a rest", "no PNG", "endless chunk", "nothing"],
)
def test_anything_else_is_malformed(data, count):
    with pytest.raises(ProtocolError) as refused:
        packs.split(data, count)
    assert refused.value.code == "malformed"
