"""A word's masks become a strip: greyscale frames of the project's size, for Blender's own mask modifier and effects."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from . import compat, documents, mask_sets, png, strips
from .landing import Landing, cannot_write
from .mask_sets import MaskSet
from .trouble import Trouble


class MaskStrip:
    """One word's masks on their way beside the .blend, frame by frame, and then into the sequencer.

    There is a frame for every frame of the clip that the set is of; where the set has fewer, a mask is shown longer.
    """

    def __init__(self, scene: bpy.types.Scene, strip, found: MaskSet, number: int, threshold: float | None):
        """Of `found.words[number]`, for the strip. With a `threshold` all is 0 below and 1 from there on.

        `Trouble` where the .blend was never saved or nothing can be written beside it.
        """
        render = scene.render
        self._set, self._number, self._threshold = found, number, threshold
        self._word = found.words[number]
        self._source = strips.describe(scene, strip)
        self._origin = mask_sets.clip_start(found, strip)
        self._size = render.resolution_x, render.resolution_y
        self._landing = Landing.beside(documents.current().path, f"{strip.name} {self._word.word} mask")
        self._folder = self._landing.open()
        self._written = 0

    @property
    def fraction(self) -> float:
        """How much is written."""
        return self._written / len(self._word.files)

    @property
    def complete(self) -> bool:
        """Whether all is written."""
        return self._written == len(self._word.files)

    def write_next(self) -> None:
        """Write the next mask; `Trouble` where it cannot be read or written."""
        mask = png.read(self._set.folder / self._word.files[self._written])[..., 0]
        full = resized(mask, self._size)
        if self._threshold is not None:
            full = np.where(full >= self._threshold * 255, np.float32(255), np.float32(0))
        try:
            self._path(self._folder, self._written).write_bytes(png.encode(np.rint(full).astype(np.uint8)))
        except OSError as error:
            raise cannot_write(self._landing.folder, error) from error
        self._written += 1

    def insert(self) -> str:
        """Put the strip over the one that it is for, with its handles, and muted; its name.

        Muted it is not seen itself, but whatever names it as its mask still uses it. `Trouble` where its strip is gone
        or no channel is free.
        """
        strip = strips.find(self._source)
        if strip is None:
            raise Trouble("'{name}' is no longer in this file.", name=self._source.name)
        folder, index = self._landing.show(), self._set.index
        first = self._origin + round(compat.content_start(strip) - self._source.content_start) + index.first
        left, right = compat.left_handle(strip), compat.right_handle(strip)
        end = first + len(self._word.files) * index.step
        holder = strips.container(strip)
        channel = strips.free_channel(holder, strip.channel, min(first, left), max(end, right))
        paths = [self._path(folder, number) for number in range(self._written) for _ in range(index.step)]
        made = compat.strips(holder).new_image(
            name=f"{strip.name} {self._word.word}",
            filepath=bpy.path.relpath(str(paths[0])),
            channel=channel,
            frame_start=first,
            fit_method="FIT",
        )
        for path in paths[1:]:
            made.elements.append(path.name)
        compat.set_handles(made, max(first, left), min(end, right))
        made.mute = True
        return made.name

    def discard(self) -> None:
        """Leave no file behind."""
        self._landing.discard()

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"{number + 1:05}.png"


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 as (height, width) float32 of `size` = (width, height): bilinear, as the preview shows it."""
    for axis, length in ((0, size[1]), (1, size[0])):
        had = mask.shape[axis]
        place = np.clip((np.arange(length, dtype=np.float32) + 0.5) * had / length - 0.5, 0, had - 1)
        low = place.astype(int)
        part = (place - low).reshape((-1, 1) if axis == 0 else (1, -1)).astype(np.float32)
        below = np.take(mask, low, axis).astype(np.float32)
        mask = below + (np.take(mask, np.minimum(low + 1, had - 1), axis) - below) * part
    return mask
