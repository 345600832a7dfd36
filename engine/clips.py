"""Clips in memory, and on disk as a video file or a folder of images."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TypeVar

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageOps

from protocol.files import pictures

from .errors import EditError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"}
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".webm")
OTHER_SUFFIXES = {*IMAGE_SUFFIXES, ".avi", ".gif", ".apng", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".ogv", ".exr"}
"""Of files that nobody means as a folder's name."""
DEFAULT_RATE = Fraction(24)
DEFAULT_CODEC = "libx264", {"crf": "16"}
CODECS = {".webm": ("libvpx-vp9", {"crf": "16", "b": "0"})}
"""Of video files that cannot hold the default one, with its options."""
_PNG_DEPTH_AT, _TIFF_DEPTH = 24, 258
BT_709, UNSAID = 1, 2
"""Of colour primaries, curves and matrices in the files' own numbers (ITU-T H.273)."""
HD_LINES = 720
UNEVEN = 0.25
"""Of the mean distance of a video's frames, from which on one that is longer or shorter by as much is told."""

Note = Callable[[str], None]
T = TypeVar("T")


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


def read_clip(
    path: Path, start: int = 0, end: int | None = None, note: Note = lambda _: None
) -> tuple[np.ndarray, Fraction]:
    """Frames `start` to `end` (exclusive, counted from 0) as (F, H, W, 3 or 4) uint8, and frames per second.

    They stand upright, as players show them. Images have alpha where one of them has; a video's is not read. `note` is
    told in a sentence what is lost of the clip. EditError with code `clip` where there is nothing to read, or `sixteen-bit`.
    """
    if not path.exists():
        raise EditError("clip", f"There is no file or folder '{path}'.", "Check the path.")
    frames, rate = _read_folder(path, start, end) if path.is_dir() else _read_video(path, start, end, note)
    if not len(frames):
        raise EditError(
            "clip", f"'{path}' has no frames from {start} to {'its end' if end is None else end}.",
            "Choose an earlier range." if start else "Give a video file, or a folder with images.",
        )  # fmt: skip
    return frames, rate


def pixel_aspect(path: Path) -> Fraction:
    """How much wider than high a pixel of the clip is shown, once it stands upright; 1 for images, and where nobody says."""
    if path.is_dir():
        return Fraction(1)
    with _opened(path) as container:
        stream = container.streams.video[0]
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        frame = next(container.decode(stream), None)
        return 1 / aspect if frame and _quarter_turns(frame) % 2 else aspect


def check_output(path: Path) -> None:
    """EditError with code `exists` where `write_clip` would replace what is there, or `cannot-write` where it could not."""
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise EditError(
            "cannot-write", f"A clip is written as {', '.join(VIDEO_SUFFIXES)}, or as a folder of PNGs, and '{path.name}' is "
            "called as none of these.", "Give another name.",
        )  # fmt: skip
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if path.exists():
            raise EditError(
                "exists", f"There is already a '{path}'.", "Give the name of a new file, or remove that one."
            )
    else:
        _check_folder(path)
    there = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise EditError(
            "cannot-write", f"Nothing can be written to '{there}': {error.strerror}.", "Give another path."
        ) from error


def write_clip(
    path: Path, frames: np.ndarray, rate: Fraction, aspect: Fraction = Fraction(1), note: Note = lambda _: None
) -> None:
    """Write (F, H, W, 3 or 4) or greyscale (F, H, W) frames to a video file, or as numbered PNGs to a new or empty folder.

    It is there whole or not at all. `aspect`: the `pixel_aspect` that a video is shown with, but for .webm, which PyAV
    cannot have say so. `note` is told in a sentence what is lost of the frames. EditError with code `exists` where something else is in the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
            part = Path(folder) / path.name
            _write_video(part, frames, rate, aspect)
            os.replace(part, path)
        if frames.ndim == 4 and frames.shape[-1] == 4 and (frames[..., 3] < 255).any():
            note(f"'{path.name}' is opaque, as videos are written without transparency; a folder of PNGs keeps it.")
    else:
        _check_folder(path)
        _write_folder(path, frames)


def _check_folder(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(not there.name.startswith(".") for there in path.iterdir())):
        raise EditError("exists", f"'{path}' is not an empty folder.", "Give the path of a new folder.")


class _Filled:
    """Takes frames into one array as they come: those of a list would be in memory twice once it becomes one."""

    def __init__(self, path: Path, expected: int):
        """`expected`: how many there may be; more find room, too."""
        self._path, self._expected = path, expected
        self._array, self._count = np.empty((0, 0, 0, 3), np.uint8), 0

    def add(self, frame: np.ndarray) -> None:
        """One more, (H, W, 3 or 4) uint8; EditError where it is of another size than those before."""
        if not self._count:
            self._array = np.empty((max(1, self._expected), *frame.shape), np.uint8)
        if frame.shape != self._array.shape[1:]:
            raise EditError(
                "clip", f"The images in '{self._path}' differ in size.", "Give a folder with one clip in it."
            )
        if self._count == len(self._array):
            self._array.resize((self._count + self._count // 8 + 16, *frame.shape), refcheck=False)
        self._array[self._count] = frame
        self._count += 1

    @property
    def frames(self) -> np.ndarray:
        """All that have come, (F, H, W, 3 or 4)."""
        return self._array[: self._count]


def _read_folder(folder: Path, start: int, end: int | None) -> tuple[np.ndarray, Fraction]:
    images = pictures(folder, IMAGE_SUFFIXES)[start:end]
    mode = "RGBA" if any(_of_image(path, lambda image: image.has_transparency_data) for path in images) else "RGB"
    filled = _Filled(folder, len(images))
    for path in images:
        filled.add(_of_image(path, lambda image: np.asarray(ImageOps.exif_transpose(image).convert(mode))))
    return filled.frames, DEFAULT_RATE


def _of_image(path: Path, find: Callable[[Image.Image], T]) -> T:
    """What `find` finds in an image; EditError where it cannot be read or would lose bits."""
    try:
        with Image.open(path) as image:
            _check_depth(path, image)
            return find(image)
    except (OSError, SyntaxError, ValueError, zlib.error, Image.DecompressionBombError) as error:
        raise EditError("clip", f"The image '{path}' cannot be read.", "Replace it or leave it out.") from error


def _check_depth(path: Path, image: Image.Image) -> None:
    """Pillow reads 16 bits per channel as 8 here, or takes them for white."""
    deep = image.mode.startswith(("I", "F"))
    if image.format == "PNG":
        with open(path, "rb") as file:
            deep = file.read(_PNG_DEPTH_AT + 1)[_PNG_DEPTH_AT] > 8
    elif image.format == "TIFF":
        deep |= max(image.tag_v2.get(_TIFF_DEPTH, (8,))) > 8
    if deep:
        raise EditError(
            "sixteen-bit",
            f"The image '{path}' has more than 8 bits per channel, which the edit would lose.",
            "Save the images with a colour depth of 8.",
        )


def _read_video(path: Path, start: int, end: int | None, note: Note) -> tuple[np.ndarray, Fraction]:
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate, opaque, times = stream.average_rate or DEFAULT_RATE, stream.metadata.get("alpha_mode") != "1", []
        length = _length(container, stream)
        filled = _Filled(path, (length if end is None else min(length, end)) - start)
        for number, frame in enumerate(container.decode(stream)):
            if end is not None and number >= end:
                break
            if number >= start:
                filled.add(np.rot90(_colours(frame), _quarter_turns(frame)))
                opaque &= not any(component.is_alpha for component in frame.format.components)
                times.append(frame.pts)
    if not opaque:
        note(f"The transparency of '{path.name}' is not read; give a folder of PNGs to keep it.")
    if _are_uneven(times):
        note(
            f"The frames of '{path.name}' follow each other unevenly. The result has {float(rate):.4g} a second throughout: "
            "what moves may do so sooner or later than its sound."
        )
    return filled.frames, rate


def _length(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Frames of a video, as far as its file says how many they are or how long they take."""
    if stream.duration:
        seconds = stream.duration * stream.time_base
    else:
        seconds = Fraction(container.duration or 0, av.time_base)
    return stream.frames or math.ceil(seconds * (stream.average_rate or DEFAULT_RATE))


def _are_uneven(times: Sequence[int | None]) -> bool:
    """Whether a distance of frames that are shown at these times is another one than their mean."""
    if len(times) < 2 or None in times:
        return False
    distances = np.diff(times)
    return bool((abs(distances - distances.mean()) > UNEVEN * distances.mean()).any())


def _colours(frame: av.VideoFrame) -> np.ndarray:
    """(h, w, 3) uint8, as players show it: what says nothing of its colours is BT.709 from 720 lines on, else BT.601."""
    unsaid = frame.colorspace == UNSAID and frame.height >= HD_LINES
    return frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709 if unsaid else None).to_ndarray()


def _quarter_turns(frame: av.VideoFrame) -> int:
    """How often a player turns the frame by 90 degrees, counter-clockwise, as a telephone that was held upright has it do."""
    return round(frame.rotation / 90) % 4


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, IndexError) as error:
        raise EditError(
            "clip", f"'{path}' cannot be read as a video.", "Give a video file or a folder of images."
        ) from error


def _write_folder(path: Path, frames: np.ndarray) -> None:
    made = not path.exists()
    path.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path, prefix=".writing-") as folder:
            parts = [Path(folder) / f"{number:05}.png" for number in range(1, len(frames) + 1)]
            for part, frame in zip(parts, frames):
                Image.fromarray(frame).save(part)
            for part in parts:
                os.replace(part, path / part.name)
    except BaseException:
        if made:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _write_video(path: Path, frames: np.ndarray, rate: Fraction, aspect: Fraction) -> None:
    """H.264, or in .webm VP9, visually lossless, and said to be BT.709, as players would else guess by the size. Odd sizes
    lose no pixel: an edge is repeated to make them even."""
    frames = frames[..., :3] if frames.ndim == 4 else np.repeat(frames[..., None], 3, axis=-1)
    height, width = frames.shape[1:3]
    frames = np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    with av.open(str(path), "w") as container:
        codec, options = CODECS.get(path.suffix.lower(), DEFAULT_CODEC)
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv420p", aspect
        said = stream.codec_context
        said.colorspace, said.color_range = Colorspace.ITU709, ColorRange.MPEG
        said.color_primaries = said.color_trc = BT_709
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
