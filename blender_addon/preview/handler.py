"""What is drawn over the sequencer's preview, and the timer that reads what the drawing wants.

Drawing itself reads no disk and renders nothing, so that scrubbing stays fluid: what is not there yet is drawn as soon
as it is.
"""

from __future__ import annotations

import bpy
from bpy.app.handlers import persistent

from .. import compat, documents, png
from . import compare, geometry, layers, paint, settings, shaders
from .pictures import Pictures

READ_BUDGET = 0.02
"""Seconds of Blender's time that reading may take at once, beyond the one picture that is read at least."""
SOON, LATER = 0.01, 0.15
"""Seconds until there may be more to do, and until something that is in the way may be over."""

files = Pictures(most_bytes=64 << 20)
"""Masks and live previews."""
_handle = None


def draw() -> None:
    """Draw over the preview region that Blender is drawing."""
    context = bpy.context
    space, region = context.space_data, context.region
    scene = compat.sequencer_scene(context)
    if space.display_mode != "IMAGE" or not space.show_overlays or scene is None or scene.sequence_editor is None:
        return
    view = settings.view()
    shown = geometry.picture(region, scene)
    files.forget_wishes()
    compare.renders.forget_wishes()
    masks = layers.shown(scene) if view.masks else []
    for layer in masks:
        files.want(layer.path, lambda path=layer.path: png.read(path))
    for place, visible in compare.draw(scene, region, shown, files):
        for layer in masks:
            if texture := files.texture(layer.path):
                paint.mask(texture, place, visible, layer.colour, view)
    wake()


def wake() -> None:
    """Have the timer look after what is shown."""
    if not bpy.app.background and not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, first_interval=0.0)


def tick() -> float | None:
    """Read what the last drawing wanted, as far as there is time; seconds until there is more to do, if there is."""
    if documents.occupied():
        return LATER
    changed = layers.sync(compat.sequencer_scene(bpy.context))
    changed |= files.load(READ_BUDGET)
    waits = compare.renders.wanting and _in_motion()
    if compare.renders.wanting and not waits:
        changed |= compare.render()
    if changed:
        redraw()
    if files.wanting or (compare.renders.wanting and not waits):
        return SOON
    return LATER if waits else None


def redraw() -> None:
    """Have previews, and the panels beside them, drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "SEQUENCE_EDITOR":
                for region in area.regions:
                    if region.type in ("PREVIEW", "UI"):
                        region.tag_redraw()


def _in_motion() -> bool:
    """Whether the user plays or scrubs: no frame is rendered then."""
    windows = bpy.context.window_manager.windows
    return any(
        window.screen.is_animation_playing
        or any(operator.bl_idname == "ANIM_OT_change_frame" for operator in window.modal_operators)
        for window in windows
    )


@persistent
def _loaded(*_) -> None:
    layers.forget()
    files.clear()
    compare.renders.clear()


@persistent
def _changed(scene: bpy.types.Scene, depsgraph) -> None:
    compare.changed(scene, depsgraph)


_HANDLERS = {"load_post": _loaded, "depsgraph_update_post": _changed}


def register() -> None:
    global _handle
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)
    if not bpy.app.background:
        _handle = bpy.types.SpaceSequenceEditor.draw_handler_add(draw, (), "PREVIEW", "POST_PIXEL")


def unregister() -> None:
    global _handle
    if _handle:
        bpy.types.SpaceSequenceEditor.draw_handler_remove(_handle, "PREVIEW")
        _handle = None
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
    _loaded()
    shaders.forget()
