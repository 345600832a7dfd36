"""A word's masks become a strip: greyscale frames of the project's size, for Blender's own mask modifier and effects."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from math import ceil
from pathlib import Path

import bpy

from . import compat, documents, export, mask_sets, png, renders, strips
from .landing import Landing, cannot_write
from .mask_sets import MaskSet
from .png import Picture
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
        mask = resized(png.read(self._set.folder / self._word.files[self._written]), self._size)
        if self._threshold is not None:
            mask = replace(mask, data=mask.data.translate(_hard(self._threshold)))
        try:
            self._path(self._folder, self._written).write_bytes(png.encode(mask))
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
            name=f"{strip.name} {self._word.word} Mask",
            filepath=bpy.path.relpath(str(paths[0])),
            channel=channel,
            frame_start=first,
            fit_method="FIT",
        )
        for path in paths[1:]:
            made.elements.append(path.name)
        compat.set_handles(made, max(first, left), min(end, right))
        made.mute, made.select = True, False
        return made.name

    def discard(self) -> None:
        """Leave no file behind."""
        self._landing.discard()

    @staticmethod
    def _path(folder: Path, number: int) -> Path:
        return folder / f"{number + 1:05}.png"


def resized(mask: Picture, size: tuple[int, int]) -> Picture:
    """The grey mask at `size` = (width, height), bilinear as the preview shows it; Blender's sequencer does that."""
    scene = export.new_scene(size)
    try:
        with tempfile.TemporaryDirectory(prefix="fatezero-") as folder:
            path = Path(folder) / "mask.png"
            path.write_bytes(png.encode(_with_border(mask)))
            strip = compat.strips(scene.sequence_editor).new_image(
                name="mask", filepath=str(path), channel=1, frame_start=1, fit_method="ORIGINAL"
            )
            strip.transform.filter = "BILINEAR"
            strip.transform.scale_x, strip.transform.scale_y = size[0] / mask.width, size[1] / mask.height
            return renders.frame(scene, 1, "BW")
    finally:
        bpy.data.scenes.remove(scene)


def _with_border(mask: Picture) -> Picture:
    """The grey mask with its outermost pixels once more around it: Blender fades out what is enlarged at its edges."""
    rows = [mask.data[at : at + mask.width] for at in range(0, len(mask.data), mask.width)]
    rows = [row[:1] + row + row[-1:] for row in (rows[0], *rows, rows[-1])]
    return Picture(mask.width + 2, mask.height + 2, 1, b"".join(rows))


def _hard(threshold: float) -> bytes:
    """For every value, whether it reaches the threshold."""
    least = ceil(threshold * 255)
    return bytes(least) + b"\xff" * (256 - least)
