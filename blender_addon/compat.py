"""What differs between Blender 4.2 and 5.2: the only module that knows versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy

_PATH_TEMPLATES = bpy.app.version >= (4, 5, 0)
"""Since 4.5 braces in an output path name variables."""
PREVIEW_KEYMAP = "Preview" if bpy.app.version >= (4, 5, 0) else "SequencerPreview"
"""What the keymap of the sequencer's preview is called."""


def strips(container) -> bpy.types.bpy_prop_collection:
    """The strips of a sequence editor or a meta strip (`sequences` until 4.3)."""
    return container.strips if hasattr(container, "strips") else container.sequences


def all_strips(editor) -> bpy.types.bpy_prop_collection:
    """The strips of a sequence editor and of all its metas (`sequences_all` until 4.3)."""
    return editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all


def all_strips_property(editor) -> str:
    """What `all_strips` is called, for a layout to search in."""
    return "strips_all" if hasattr(editor, "strips_all") else "sequences_all"


def sequencer_scene(context: bpy.types.Context) -> bpy.types.Scene:
    """The scene that the sequencer shows; since 5.0 a workspace may name one that is not the window's."""
    return getattr(context, "sequencer_scene", None) or context.scene


def left_handle(strip) -> int:
    """First frame of the strip, handles applied (`frame_final_start` until 5.0)."""
    return strip.left_handle if hasattr(strip, "left_handle") else strip.frame_final_start


def right_handle(strip) -> int:
    """First frame after the strip, handles applied (`frame_final_end` until 5.0)."""
    return strip.right_handle if hasattr(strip, "right_handle") else strip.frame_final_end


def new_colour(editor, channel: int, first: int, end: int):
    """A new colour strip from frame `first` to before `end` (`frame_end` until 4.5)."""
    length = {"length": end - first} if bpy.app.version >= (5, 0, 0) else {"frame_end": end}
    return strips(editor).new_effect(name="Colour", type="COLOR", channel=channel, frame_start=first, **length)


def set_handles(strip, left: int, right: int) -> None:
    """Put the strip's handles at these frames."""
    if hasattr(strip, "left_handle"):
        strip.left_handle, strip.right_handle = left, right
    else:
        strip.frame_final_start, strip.frame_final_end = left, right


def content_start(strip) -> float:
    """Frame at which the untrimmed content begins (`frame_start` until 5.0)."""
    return strip.content_start if hasattr(strip, "content_start") else strip.frame_start


def set_content_start(strip, frame: float) -> None:
    """Move the strip so that its untrimmed content begins at `frame`."""
    if hasattr(strip, "content_start"):
        strip.content_start = frame
    else:
        strip.frame_start = frame


def fcurves(scene: bpy.types.Scene) -> Iterator[bpy.types.FCurve]:
    """The curves that animate the scene; since 4.4 an action may have layers, and since 5.0 it has nothing else."""
    animation = scene.animation_data
    action = animation.action if animation else None
    if action is None:
        return
    if hasattr(action, "fcurves"):
        yield from action.fcurves
        return
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(animation.action_slot)
            if bag:
                yield from bag.fcurves


def animation_path(strip) -> str:
    """What the path of each curve and driver that moves the strip has in it."""
    return f'["{bpy.utils.escape_identifier(strip.name)}"]'


def movers(scene: bpy.types.Scene) -> list[bpy.types.FCurve]:
    """What moves the scene's properties: curves and drivers."""
    return [*fcurves(scene), *drivers(scene)]


def drivers(scene: bpy.types.Scene) -> list[bpy.types.FCurve]:
    """What drives the scene's properties."""
    return list(scene.animation_data.drivers) if scene.animation_data else []


def own_action(scene: bpy.types.Scene) -> bpy.types.Action | None:
    """Give the scene, a copy, a copy of the action that it shares, and return that; None where no action animates it."""
    animation = scene.animation_data
    if animation is None or animation.action is None:
        return None
    slot = getattr(animation, "action_slot", None)
    animation.action = action = animation.action.copy()
    if slot:
        animation.action_slot = action.slots[slot.identifier]
    return action


def use_png(image_settings: bpy.types.ImageFormatSettings) -> None:
    """Set the format to 8-bit PNG with alpha; since 5.0 the kind of media comes first."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "IMAGE"
    image_settings.file_format = "PNG"
    image_settings.color_mode = "RGBA"
    image_settings.color_depth = "8"


def use_targa(image_settings: bpy.types.ImageFormatSettings, colours: str) -> None:
    """Set the format to uncompressed 8-bit Targa, in `RGB` or in grey (`BW`)."""
    if hasattr(image_settings, "media_type"):
        image_settings.media_type = "IMAGE"
    image_settings.file_format = "TARGA_RAW"
    image_settings.color_mode = colours


def output_path(path: Path) -> str:
    """`path` as a value for `render.filepath` that Blender takes literally, but for `#`."""
    text = str(path)
    return text.replace("{", "{{").replace("}", "}}") if _PATH_TEMPLATES else text
