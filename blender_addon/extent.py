"""Which part of a strip is edited: of its frames, of its picture, and in what size; and where that lies on the screen."""

from __future__ import annotations

import math
from dataclasses import replace

import bpy

from . import compat, strips
from .strips import Source
from .trouble import Trouble

SMALL = 0.75
"""Part of the picture's area under which a strip counts as small: only what it covers is worked on then."""
LEAST = 16
"""Pixels on a side of the smallest part of a picture that is worked on by itself."""
PLAIN_MODIFIERS = {"BRIGHT_CONTRAST", "COLOR_BALANCE", "CURVES", "HUE_CORRECT", "WHITE_BALANCE"}
"""Modifiers that give each pixel its colour whatever is around it."""

Box = tuple[int, int, int, int]
"""Left, bottom, width and height in the project's pixels."""


def chosen(context: bpy.types.Context, scene: str = "", strip: str = "") -> Source:
    """What the panel's settings take of the strip that `strips.choose` finds; `Trouble` where that is nothing."""
    source = strips.choose(context, scene, strip)
    found = bpy.data.scenes[source.scene]
    return part(source, strips.named(found, source.name), found)


def part(source: Source, strip, scene: bpy.types.Scene) -> Source:
    """What the panel's settings take of the strip that `source` describes whole; `Trouble` where that is nothing."""
    work = scene.fatezero_work
    first, end = source.first, source.first + source.count
    if work.frames == "PREVIEW":
        if not scene.use_preview_range:
            raise Trouble("The sequencer has no preview range.", "Set one (P), or edit the whole strip.")
        first, end = scene.frame_preview_start, scene.frame_preview_end + 1
    elif work.frames == "RANGE":
        first, end = work.first, work.last + 1
    narrowed = within(source, first, end)
    return replace(narrowed, step=min(work.held, narrowed.count), percent=work.percent, box=visible_box(scene, strip))


def within(source: Source, first: int, end: int) -> Source:
    """The frames of `source` from `first` to before `end`; `Trouble` where it has none of them."""
    left, right = source.whole
    first, end = max(first, left), min(end, right)
    if first >= end:
        raise Trouble(
            "'{name}' has no frame in the range to edit.", "Its frames are {left} to {right}: choose some of them.",
            name=source.name, left=left, right=right - 1,
        )  # fmt: skip
    return replace(source, first=first, count=end - first, trim=(first - left, right - end))


def again(scene: bpy.types.Scene, strip, before: Source) -> Source:
    """The same part of the strip's content as `before`, of the strip as it is now.

    A strip that was edited whole is so again, however it is trimmed now; else the same frames are, as far as it shows
    them still. `Trouble` where it shows none of them.
    """
    now = strips.describe(scene, strip)
    if any(before.trim):
        first = before.first + round(now.content_start - before.content_start)
        now = within(now, first, first + before.count)
    return replace(now, step=min(before.step, now.count), percent=before.percent, box=visible_box(scene, strip))


def count_of(strip, scene: bpy.types.Scene) -> tuple[int, int]:
    """Frames that would be edited, and frames of the strip: cheap enough to be asked while drawing."""
    work, left, right = scene.fatezero_work, compat.left_handle(strip), compat.right_handle(strip)
    first, end = left, right
    if work.frames == "PREVIEW":
        first, end = scene.frame_preview_start, scene.frame_preview_end + 1
    elif work.frames == "RANGE":
        first, end = work.first, work.last + 1
    covered = max(0, min(end, right) - max(first, left))
    return -(-covered // work.held), right - left


def visible_box(scene: bpy.types.Scene, strip) -> Box | None:
    """What the strip covers of the picture, where that is small and can be told from its transform.

    Its centre is the picture's, or a whole number of pixels off it, so that nothing is resampled on the way back.
    """
    if strip.type not in ("MOVIE", "IMAGE") or not strip.elements or not _is_plain(scene, strip):
        return None
    width, height = scene.render.resolution_x, scene.render.resolution_y
    element = strip.elements[0]
    xs, ys = zip(*_corners(strip, width, height))
    across = _span(min(xs), max(xs), width, element.orig_width)
    along = _span(min(ys), max(ys), height, element.orig_height)
    if across is None or along is None or across[1] * along[1] > SMALL * width * height:
        return None
    if strip.use_flip_x:
        across = (width - sum(across), across[1])
    if strip.use_flip_y:
        along = (height - sum(along), along[1])
    return across[0], along[0], across[1], along[1]


def show_only(scene: bpy.types.Scene, strip, source: Source) -> None:
    """Have `scene`, a copy with the strip alone, show the part of the picture that `source` names, in its size."""
    scene.render.resolution_percentage = source.percent
    if source.box is None:
        return
    width, height = source.box[2:]
    x, y = _centre(source)
    strip.transform.offset_x += x if strip.use_flip_x else -x
    strip.transform.offset_y += y if strip.use_flip_y else -y
    scene.render.resolution_x, scene.render.resolution_y = width, height


def placement(source: Source) -> tuple[float, float, float, float]:
    """Scale across and along, and offset in pixels, of a strip whose frames cover what they were taken from."""
    size = source.box[2:] if source.box else source.size
    frame = source.frame_size
    return size[0] / frame[0], size[1] / frame[1], *_centre(source)


def _centre(source: Source) -> tuple[float, float]:
    """Where the middle of the part lies, in pixels from the picture's middle."""
    if source.box is None:
        return 0.0, 0.0
    left, bottom, width, height = source.box
    return left + (width - source.size[0]) / 2, bottom + (height - source.size[1]) / 2


def _is_plain(scene: bpy.types.Scene, strip) -> bool:
    """Whether the strip stays where it is, and looks the same wherever that is."""
    path = f"{compat.animation_path(strip)}."
    for curve in compat.movers(scene):
        if path in curve.data_path and (".transform." in curve.data_path or ".crop." in curve.data_path):
            return False
    return all(
        modifier.type in PLAIN_MODIFIERS and modifier.input_mask_id is None and modifier.input_mask_strip is None
        for modifier in strip.modifiers
        if not modifier.mute
    )


def _corners(strip, width: int, height: int) -> list[tuple[float, float]]:
    """Where the corners of the strip's cropped picture come to lie, in pixels from the picture's lower left."""
    element, crop, transform = strip.elements[0], strip.crop, strip.transform
    across, along = element.orig_width, element.orig_height
    pivot = transform.origin[0] * across, transform.origin[1] * along
    cosine, sine = math.cos(transform.rotation), math.sin(transform.rotation)
    corners = []
    for x in (crop.min_x, across - crop.max_x):
        for y in (crop.min_y, along - crop.max_y):
            dx, dy = (x - pivot[0]) * transform.scale_x, (y - pivot[1]) * transform.scale_y
            corners.append(
                (
                    pivot[0] + dx * cosine - dy * sine + transform.offset_x + (width - across) / 2,
                    pivot[1] + dx * sine + dy * cosine + transform.offset_y + (height - along) / 2,
                )
            )
    return corners


def _span(low: float, high: float, size: int, media: int) -> tuple[int, int] | None:
    """First pixel and number of pixels on one side, a margin for filters included; None where no such part will do.

    The number is even where the project's `size` is, and odd where that is: their middles are whole pixels apart.
    Blender puts the `media`'s middle on the picture's, rounding half a pixel towards the larger of the two: the part
    must not change which one that is.
    """
    first, end = max(0, math.floor(low) - 1), min(size, math.ceil(high) + 1)
    if end - first < LEAST:
        return None
    if (end - first - size) % 2:
        first, end = (first, end + 1) if end < size else (first - 1, end)
    if (size - media) % 2 and end - first < media < size:
        return None
    return first, end - first
