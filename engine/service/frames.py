"""Frames between PNG files and arrays: 8 bits per channel, RGB or RGBA."""

from __future__ import annotations

import hashlib
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


class StoredClip:
    """PNG files as one clip of RGB frames, or of RGBA where any of them has alpha; decoded when they are asked for.

    Palettes and greys become RGB. `EditError` at once for what is no PNG file, has 16 bits per channel (which would come
    back with fewer), is larger than the limit, and for frames of different sizes; for damaged pixels when they are
    decoded. The files are blobs: their names say what is in them.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths, transparent, first = paths, False, None
        self.cuts: list[int] | None = None
        """The frames with which its second shot begins and all later ones, where somebody has found them."""
        for number, path in enumerate(paths, start=1):
            with _open(number, path) as image:
                transparent = transparent or image.has_transparency_data
                first = first or image.size
                if image.size != first:
                    raise EditError(
                        "sizes-differ",
                        f"Frame {number} is {image.width}x{image.height} pixels, the first one {first[0]}x{first[1]}.",
                        "Export all frames at one size.",
                    )
        self._mode = "RGBA" if transparent else "RGB"
        self.shape = len(paths), first[1], first[0], len(self._mode)

    @property
    def digest(self) -> str:
        return hashlib.sha256(" ".join(path.name for path in self._paths).encode()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        numbers = range(len(self._paths))[part] if isinstance(part, slice) else part
        frames = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for frame, index in zip(frames, numbers, strict=True):
            with _open(index + 1, self._paths[index]) as image:
                try:
                    frame[:] = np.asarray(image.convert(self._mode))
                except (OSError, SyntaxError, ValueError, zlib.error) as error:
                    raise _damaged(index + 1) from error
        return frames


class StoredMasks:
    """PNG files of any size as grey masks of a clip's frames of `size` (width, height); errors as of `StoredClip`."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]):
        self._paths, self._size = paths, size
        for number, path in enumerate(paths, start=1):
            _open(number, path).close()
        self.shape = len(paths), size[1], size[0]

    @property
    def digest(self) -> str:
        return hashlib.sha256(" ".join(path.name for path in self._paths).encode()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        numbers = range(len(self._paths))[part] if isinstance(part, slice) else part
        masks = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        for mask, index in zip(masks, numbers, strict=True):
            with _open(index + 1, self._paths[index]) as image:
                try:
                    grey = image.convert("L")
                except (OSError, SyntaxError, ValueError, zlib.error) as error:
                    raise _damaged(index + 1) from error
            mask[:] = np.asarray(grey.resize(self._size, Image.Resampling.BILINEAR))
        return masks


def encode(frame: np.ndarray) -> bytes:
    """One frame (H, W), (H, W, 3) or (H, W, 4) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG", compress_level=_COMPRESSION)
    return file.getvalue()


def _open(number: int, path: Path) -> Image.Image:
    """The file's header, its pixels still undecoded."""
    try:
        with open(path, "rb") as file:
            data = file.read(_BIT_DEPTH_AT + 1)
    except OSError as error:
        raise EditError(
            "cannot-read", f"Frame {number} cannot be read from the engine's store.", "Try again."
        ) from error
    if not data.startswith(_SIGNATURE):
        raise EditError("not-png", f"Frame {number} is not a PNG file.", "Export the frames as PNG.")
    if data[_BIT_DEPTH_AT:] == b"\x10":
        raise EditError(
            "sixteen-bit",
            f"Frame {number} has 16 bits per channel, which the edit would lose.",
            "Export the frames with a colour depth of 8.",
        )
    try:
        image = Image.open(path, formats=["PNG"])
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise _damaged(number) from error
    if max(image.size) > limits.MAX_FRAME_SIDE:
        image.close()
        raise EditError(
            "over-limit",
            f"Frame {number} is {image.width}x{image.height} pixels; the engine takes at most "
            f"{limits.MAX_FRAME_SIDE} a side.",
            "Export smaller frames.",
        )
    return image


def _damaged(number: int) -> EditError:
    return EditError("damaged-frame", f"Frame {number} is damaged.", "Export the frames again.")
