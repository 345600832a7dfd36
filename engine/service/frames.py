"""Frames between PNG files and arrays: 8 bits per channel, RGB or RGBA."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from engine.errors import EditError
from protocol import limits

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH_AT = 24
_COMPRESSION = 3
"""Of zlib: half the time of its default, at few per cent more bytes."""


def load(paths: Sequence[Path]) -> np.ndarray:
    """The PNG files as one clip (F, H, W, 3 or 4) uint8; 4 where any of them has alpha.

    Palettes and greys become RGB. `EditError` for what is no PNG file, is damaged, has 16 bits per channel (which would
    come back with fewer), for frames of different sizes, and for a clip over the limits.
    """
    images = [_open(number, path) for number, path in enumerate(paths, start=1)]
    width, height = images[0].size
    for number, image in enumerate(images, start=1):
        if image.size != (width, height):
            raise EditError(
                "sizes-differ",
                f"Frame {number} is {image.width}x{image.height} pixels, the first one {width}x{height}.",
                "Export all frames at one size.",
            )
    mode = "RGBA" if any(image.has_transparency_data for image in images) else "RGB"
    frame_bytes = width * height * len(mode)
    if len(images) * frame_bytes > limits.MAX_CLIP_BYTES:
        raise EditError(
            "over-limit",
            f"{len(images)} frames of {width}x{height} pixels are more than the engine takes at once.",
            f"Edit at most {limits.MAX_CLIP_BYTES // frame_bytes} frames of this size.",
        )
    clip = np.empty((len(images), height, width, len(mode)), np.uint8)
    for index, image in enumerate(images):
        try:
            clip[index] = np.asarray(image.convert(mode))
        except (OSError, SyntaxError, ValueError, zlib.error) as error:
            raise _damaged(index + 1) from error
        image.close()
    return clip


def encode(frame: np.ndarray) -> bytes:
    """One frame (H, W), (H, W, 3) or (H, W, 4) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG", compress_level=_COMPRESSION)
    return file.getvalue()


def _open(number: int, path: Path) -> Image.Image:
    """The file's header, its pixels still undecoded."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EditError(
            "cannot-read", f"Frame {number} cannot be read from the engine's store.", "Try again."
        ) from error
    if not data.startswith(_SIGNATURE):
        raise EditError("not-png", f"Frame {number} is not a PNG file.", "Export the frames as PNG.")
    if data[_BIT_DEPTH_AT : _BIT_DEPTH_AT + 1] == b"\x10":
        raise EditError(
            "sixteen-bit",
            f"Frame {number} has 16 bits per channel, which the edit would lose.",
            "Export the frames with a colour depth of 8.",
        )
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise _damaged(number) from error
    if max(image.size) > limits.MAX_FRAME_SIDE:
        raise EditError(
            "over-limit",
            f"Frame {number} is {image.width}x{image.height} pixels; the engine takes at most "
            f"{limits.MAX_FRAME_SIDE} a side.",
            "Export smaller frames.",
        )
    return image


def _damaged(number: int) -> EditError:
    return EditError("damaged-frame", f"Frame {number} is damaged.", "Export the frames again.")
