"""Single frames of a scene as numpy arrays: with some strips muted, as the preview shows them."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import bpy
import numpy as np

from . import compat, export
from .trouble import Trouble

_HEADER = 18
"""Bytes of a Targa file before its pixels, where it has no name and no palette."""


def before(name: str, number: int, muted: frozenset[str], percentage: int) -> np.ndarray:
    """(H, W, 4) uint8: frame `number` of the scene of that name without these strips, in the display's colours.

    `percentage` is of the project's size. `Trouble` where Blender cannot render it.
    """
    scene = bpy.data.scenes.get(name)
    if scene is None or scene.sequence_editor is None:
        raise Trouble("There is no scene '{scene}' any more.", scene=name)
    copy = scene.copy()
    copy[export.MARK] = True
    copy.name = export.COPY_NAME
    try:
        for strip in compat.all_strips(copy.sequence_editor):
            strip.mute = strip.mute or strip.name in muted
        export.plain_output(copy)
        copy.render.resolution_percentage = percentage
        return frame(copy, number)
    finally:
        bpy.data.scenes.remove(copy)


def frame(scene: bpy.types.Scene, number: int) -> np.ndarray:
    """(H, W, 4) uint8, top row first: what the scene, one of our copies, shows at that frame. `Trouble` as above."""
    compat.use_targa(scene.render.image_settings)
    with tempfile.TemporaryDirectory(prefix="fatezero-") as folder:
        return read_targa(export.render_into(Path(folder), scene, number))


def read_targa(path: Path) -> np.ndarray:
    """(H, W, 4) uint8, top row first, of a Targa file as Blender writes it: uncompressed, bottom row first, BGRA."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise Trouble("Blender has not rendered a frame: {reason}.", reason=error.strerror) from error
    width, height = (int(size) for size in data[12:16].view("<u2")) if data.size > _HEADER else (0, 0)
    channels = int(data[16]) // 8 if width else 0
    if channels not in (3, 4) or data.size < _HEADER + height * width * channels:
        raise Trouble("Blender has rendered a frame that cannot be read.", "Make room on the disk for temporary files.")
    pixels = data[_HEADER : _HEADER + height * width * channels].reshape(height, width, channels)[::-1]
    full = np.full((height, width, 4), 255, np.uint8)
    full[..., :3], full[..., 3:] = pixels[..., 2::-1], pixels[..., 3:] if channels == 4 else 255
    return full


def percentage(scene: bpy.types.Scene, width: float) -> int:
    """How large, in percent of the project, a frame need be rendered that is shown `width` pixels wide: a few sizes."""
    needed = 100 * width / scene.render.resolution_x
    return min(100, max(25, 25 * math.ceil(needed / 25)))
