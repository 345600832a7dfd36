"""Clips in memory, and on disk as a video file or a folder of images."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import EditError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
DEFAULT_RATE = Fraction(24)


class Clip(Protocol):
    """The frames of a clip, read as they are needed: they need not be in memory."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(F, H, W, channels), with 3 channels or 4."""

    @property
    def digest(self) -> str:
        """Hex, of all that the frames show: clips with one digest are one clip."""

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        """Some of the frames, (n, H, W, channels) uint8."""


class ArrayClip:
    """Frames (F, H, W, 3 or 4) uint8 in memory as a clip; EditError for any other array."""

    def __init__(self, frames: np.ndarray):
        if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or frames.dtype != np.uint8 or not len(frames):
            raise EditError("frames", "A clip must be at least one RGB or RGBA frame of 8 bits a channel.")
        self._frames, self.shape = frames, frames.shape

    @property
    def digest(self) -> str:
        sha = hashlib.sha256(repr(self.shape).encode())
        for frame in self._frames:
            sha.update(np.ascontiguousarray(frame))
        return sha.hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        return self._frames[part]


class PartOfClip:
    """Some frames of a clip as one: those of a part, and those that its edit needs beside them (`parts.computed`)."""

    def __init__(self, clip: Clip, frames: Sequence[int]):
        self._clip, self.frames = clip, frames
        """Their indices in the whole clip."""
        self.shape = len(self.frames), *clip.shape[1:]

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self._clip.digest} {self.frames}".encode()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        chosen = self.frames[part] if isinstance(part, slice) else [self.frames[index] for index in part]
        return self._clip[chosen]


def read_clip(path: Path, start: int = 0, end: int | None = None) -> tuple[np.ndarray, Fraction]:
    """Frames `start` to `end` (exclusive, counted from 0) as (F, H, W, 3 or 4) uint8, and frames per second.

    EditError with code `clip` where there is nothing to read.
    """
    if not path.exists():
        raise EditError("clip", f"There is no file or folder '{path}'.", "Check the path.")
    frames, rate = _read_folder(path, start, end) if path.is_dir() else _read_video(path, start, end)
    if not frames:
        raise EditError("clip", f"'{path}' has no frames from {start} to {end or 'its end'}.", "Choose another range.")
    if len({frame.shape for frame in frames}) > 1:
        raise EditError("clip", f"The images in '{path}' differ in size.", "Give a folder with one clip in it.")
    return np.stack(frames), rate


def write_clip(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """Write (F, H, W, 3 or 4) or greyscale (F, H, W) frames to a video file, or as numbered PNGs to a folder.

    A video, and each PNG, is there whole or not at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            part = Path(folder) / path.name
            _write_video(part, frames, rate)
            os.replace(part, path)
    else:
        path.mkdir(exist_ok=True)
        for number, frame in enumerate(frames, 1):
            part = path / f".{number:05}.writing"
            Image.fromarray(frame).save(part, format="PNG")
            os.replace(part, path / f"{number:05}.png")


def _read_folder(folder: Path, start: int, end: int | None) -> tuple[list[np.ndarray], Fraction]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)[start:end]
    frames = []
    for path in images:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGBA" if "A" in image.getbands() else "RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise EditError("clip", f"The image '{path}' cannot be read.", "Replace it or leave it out.") from error
    return frames, DEFAULT_RATE


def _read_video(path: Path, start: int, end: int | None) -> tuple[list[np.ndarray], Fraction]:
    frames = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for number, frame in enumerate(container.decode(stream)):
                if end is not None and number >= end:
                    break
                if number >= start:
                    frames.append(frame.to_ndarray(format="rgb24"))
            return frames, stream.average_rate or DEFAULT_RATE
    except (av.FFmpegError, IndexError) as error:
        raise EditError(
            "clip", f"'{path}' cannot be read as a video.", "Give a video file or a folder of images."
        ) from error


def _write_video(path: Path, frames: np.ndarray, rate: Fraction) -> None:
    """H.264, visually lossless; odd sizes lose no pixel, as an edge is repeated to make them even."""
    frames = frames[..., :3] if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
    height, width = frames.shape[1:3]
    frames = np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
