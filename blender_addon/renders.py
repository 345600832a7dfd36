"""Single frames that Blender renders, as pixels: what a scene shows, with some strips muted or in grey."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import bpy

from . import compat, export
from .png import Picture
from .trouble import Trouble

_HEADER = 18
"""Bytes of a Targa file before its pixels, where it has no name and no palette."""


def before(name: str, number: int, muted: frozenset[str], percentage: int) -> Picture:
    """Frame `number` of the scene of that name without these strips: RGB, in the display's colours.

    `percentage` is of the project's size. `Trouble` where Blender cannot render it.
    """
    scene = bpy.data.scenes.get(name)
    if scene is None or scene.sequence_editor is None:
        raise Trouble("There is no scene '{scene}' any more.", scene=name)
    copy = scene.copy()
    copy[export.MARK] = True
    copy.name = export.COPY_NAME
    try:
        hidden = [strip for strip in compat.all_strips(copy.sequence_editor) if strip.name in muted]
        for strip in hidden:
            strip.mute = True
        export.still(copy, [export.mute_path(strip) for strip in hidden])
        export.plain_output(copy)
        copy.render.resolution_percentage = percentage
        return frame(copy, number)
    finally:
        export.remove(copy)


def frame(scene: bpy.types.Scene, number: int, colours: str = "RGB") -> Picture:
    """What the scene, one of our copies, shows at that frame: in `RGB`, or how bright it is (`BW`). `Trouble` as above.

    The file in between is an uncompressed one, which takes no time to write and to read.
    """
    compat.use_targa(scene.render.image_settings, colours)
    with tempfile.TemporaryDirectory(prefix="fatezero-") as folder:
        return read_targa(export.render_into(Path(folder), scene, number))


def read_targa(path: Path) -> Picture:
    """A Targa file as Blender writes it: uncompressed, the bottom row first, grey or BGR."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Trouble("Blender has not rendered a frame: {reason}.", reason=error.strerror) from error
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    channels = data[16] // 8 if len(data) > _HEADER else 0
    size = width * channels
    if channels not in (1, 3) or len(data) < _HEADER + height * size:
        raise Trouble("Blender has rendered a frame that cannot be read.", "Make room on the disk for temporary files.")
    starts = range(_HEADER + (height - 1) * size, _HEADER - 1, -size)
    pixels = bytearray(b"".join(data[at : at + size] for at in starts))
    if channels == 3:
        pixels[0::3], pixels[2::3] = pixels[2::3], pixels[0::3]
    return Picture(width, height, channels, bytes(pixels))


def percentage(scene: bpy.types.Scene, width: float) -> int:
    """How large, in percent of the project, a frame need be rendered that is shown `width` pixels wide: a few sizes."""
    needed = 100 * width / scene.render.resolution_x
    return min(100, max(25, 25 * math.ceil(needed / 25)))
