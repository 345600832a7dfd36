"""Before and after: what the edit is laid over, beside it or on one side of a line, and a running job's live preview.

After is the sequencer's own picture. Before is the same frame rendered without the results that lie over the source:
titles, grading and everything else are on both sides, and the edit is all that differs.
"""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import compat, export, png, reimport
from .. import renders as rendering
from ..trouble import Trouble
from . import live, paint, settings
from .geometry import Rect, halves, inset
from .pictures import Pictures

renders = Pictures(most_bytes=256 << 20)
"""Rendered frames; those of before the last change of the scene are not asked for any more."""
_generation = 0
_rendered = False
"""Whether a frame was rendered since the last drawing: that changes nothing, though Blender says that it does."""
_frames: dict[str, int] = {}
"""The frame at which each scene was seen last: a scene that is only at another frame has not changed."""


def draw(scene: bpy.types.Scene, region: bpy.types.Region, shown: Rect, files: Pictures) -> list[tuple[Rect, Rect]]:
    """Draw what is to be compared over the picture at `shown`; where the picture then is, and what one sees of it."""
    global _rendered
    _rendered = False
    view = settings.view()
    whole = Rect(0, 0, region.width, region.height)
    job = live.at(scene)
    if job:
        files.want(job.key, lambda: png.decode(job.data))
    muted = results(scene) if view.compare != "OFF" else frozenset()
    if view.compare == "OFF" or not (muted or job):
        if job and view.live and (texture := files.texture(job.key)):
            corner = inset(shown, texture.width / texture.height)
            paint.fill(_grown(corner, paint.scaled(1.0)), paint.SHADE)
            paint.picture(texture, corner, corner)
            paint.words(job.label, corner.x, corner.top)
        return [(shown, shown.clipped(whole))]
    if view.compare == "SIDE":
        return _side_by_side(scene, whole, shown, muted, job, files)
    _wipe(scene, shown, whole, muted, job, files)
    return [(shown, shown.clipped(whole))]


def results(scene: bpy.types.Scene) -> frozenset[str]:
    """Names of the results that are compared with what is below: of one source, those that are seen at this frame."""
    frame = scene.frame_current
    here = [
        strip
        for strip in compat.all_strips(scene.sequence_editor)
        if strip.type == "IMAGE"
        and reimport.TAG in strip
        and not strip.mute
        and compat.left_handle(strip) <= frame < compat.right_handle(strip)
    ]
    if not here:
        return frozenset()
    active = scene.sequence_editor.active_strip
    of = reimport.origin_of(active if active in here else max(here, key=lambda strip: strip.channel)).strip
    return frozenset(strip.name for strip in here if reimport.origin_of(strip).strip == of)


def has_something(scene: bpy.types.Scene) -> bool:
    """Whether there are two sides at this frame."""
    return bool(results(scene) or live.at(scene))


def render() -> bool:
    """Render the next frame that is wanted; whether there is a new one."""
    global _rendered
    _rendered = True
    return renders.load(0.0)


def changed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """Render anew what is shown of a scene that has changed."""
    global _generation
    was, _frames[scene.name] = _frames.get(scene.name, scene.frame_current), scene.frame_current
    if was != scene.frame_current or export.MARK in scene or _rendered:
        return
    if any(isinstance(update.id, bpy.types.Scene) for update in depsgraph.updates):
        _generation += 1


def divider(shown: Rect) -> float:
    """Where the line of the wipe is, in the region's pixels."""
    return shown.x + shown.width * settings.view().divider


def _wipe(scene, shown: Rect, whole: Rect, muted: frozenset[str], job: live.Live | None, files: Pictures) -> None:
    at = settings.view().divider
    left, right = shown.part(0.0, at).clipped(whole), shown.part(at, 1.0).clipped(whole)
    if job:
        _picture(files, job.key, shown, right, waits=iface_("Live preview"))
    if muted:
        _picture(renders, _want(scene, muted, shown.width), shown, left, waits=iface_("Rendering"))
    line = Rect(divider(shown) - paint.scaled(1.0), shown.y, paint.scaled(2.0), shown.height).clipped(whole)
    paint.fill(_grown(line, paint.scaled(1.0)), paint.SHADE)
    paint.fill(line, paint.WHITE)
    grip = Rect(divider(shown) - paint.scaled(3.0), whole.height / 2 - paint.scaled(14.0), paint.scaled(6.0), 0)
    grip = Rect(grip.x, grip.y, grip.width, paint.scaled(28.0)).clipped(whole)
    paint.fill(_grown(grip, paint.scaled(1.0)), paint.SHADE)
    paint.fill(grip, paint.WHITE)
    _label(left, right, job)


def _side_by_side(scene, whole, shown, muted, job, files) -> list[tuple[Rect, Rect]]:
    pair = halves(whole, shown)
    paint.fill(whole, (0.0, 0.0, 0.0, 1.0))
    (before, seen_before), (after, seen_after) = pair
    _picture(renders, _want(scene, muted, before.width), before, seen_before, waits=iface_("Rendering"))
    if job:
        _picture(files, job.key, after, seen_after, waits=iface_("Live preview"))
    else:
        key = _want(scene, frozenset(), after.width)
        _picture(renders, key, after, seen_after, waits=iface_("Rendering"))
    paint.fill(Rect(whole.width / 2 - paint.scaled(1.5), 0, paint.scaled(3.0), whole.height), (0.0, 0.0, 0.0, 1.0))
    _label(seen_before, seen_after, job)
    return pair


def _want(scene: bpy.types.Scene, muted: frozenset[str], width: float) -> tuple:
    """The key of the current frame without these strips, which is wanted from now on."""
    percentage = rendering.percentage(scene, width)
    name, frame = scene.name, scene.frame_current
    key = (_generation, name, frame, muted, percentage)
    renders.want(key, lambda: rendering.before(name, frame, muted, percentage))
    return key


def _picture(store: Pictures, key, place: Rect, seen: Rect, waits: str) -> None:
    """A picture, or in its place what it waits for, or what has gone wrong."""
    if texture := store.texture(key):
        paint.picture(texture, place, seen)
        return
    got = store.get(key)
    paint.fill(seen, (0.0, 0.0, 0.0, 0.7))
    if seen.width > paint.scaled(80):
        text = " ".join(got.told(iface_)) if isinstance(got, Trouble) else waits
        paint.words(text, seen.x + paint.scaled(8), seen.y + seen.height / 2)


def _label(left: Rect, right: Rect, job: live.Live | None) -> None:
    gap = paint.scaled(8.0)
    if left.width > paint.scaled(90):
        paint.words(iface_("Before"), left.x + gap, left.top - gap)
    if right.width > paint.scaled(90):
        paint.words(job.label if job else iface_("After"), right.right - gap, right.top - gap, to_left=True)


def _grown(rect: Rect, by: float) -> Rect:
    return Rect(rect.x - by, rect.y - by, rect.width + 2 * by, rect.height + 2 * by)
