"""How masks and comparisons are shown: of this Blender's window, as overlays are, and no step of the undo history."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .. import jobs

COLOURS = (
    (0.95, 0.25, 0.20),
    (0.20, 0.65, 1.00),
    (1.00, 0.80, 0.10),
    (0.35, 0.90, 0.40),
    (0.95, 0.40, 0.95),
    (0.25, 0.95, 0.95),
    (1.00, 0.55, 0.15),
    (0.70, 0.60, 1.00),
)
"""Told apart on most pictures, in the order in which words get them."""


def _redraw(_settings, _context) -> None:
    jobs.redraw()


class FATEZERO_PG_word(bpy.types.PropertyGroup):
    """A word whose mask can be shown; its name is the word."""

    mask_set: StringProperty(description="The job that made its mask", options={"HIDDEN", "SKIP_SAVE"})
    number: IntProperty(description="Which of the mask set's words it is", options={"HIDDEN", "SKIP_SAVE"})
    kind: StringProperty(description="Whether it is a word, or the mask of an edit", options={"HIDDEN", "SKIP_SAVE"})
    shown: BoolProperty(
        name="Show", description="Show where in the picture the model sees this word", update=_redraw, options=set()
    )
    colour: FloatVectorProperty(
        name="Colour",
        description="What this word's mask is drawn in",
        subtype="COLOR_GAMMA",
        size=3,
        min=0.0,
        max=1.0,
        default=COLOURS[0],
        update=_redraw,
        options=set(),
    )


class FATEZERO_PG_view(bpy.types.PropertyGroup):
    """What is drawn over the preview."""

    words: CollectionProperty(
        type=FATEZERO_PG_word, name="Words", description="Words whose masks can be shown", options={"SKIP_SAVE"}
    )
    masks: BoolProperty(
        name="Masks",
        description="Show the masks of the chosen words over the preview",
        default=True,
        update=_redraw,
        options=set(),
    )
    opacity: FloatProperty(
        name="Opacity",
        description="How much the masks cover the picture",
        min=0.0,
        max=1.0,
        default=0.6,
        subtype="FACTOR",
        update=_redraw,
        options=set(),
    )
    style: EnumProperty(
        name="Style",
        description="What is shown of a mask",
        items=[
            ("SOFT", "Soft", "How sure the model is, place by place"),
            ("HARD", "Hard", "Every place that reaches the threshold, as an edit with blend words takes it"),
        ],
        default="SOFT",
        update=_redraw,
        options=set(),
    )
    threshold: FloatProperty(
        name="Threshold",
        description="How sure a place must be to be shown, and to be in a hard mask strip",
        min=0.0,
        max=1.0,
        default=0.3,
        subtype="FACTOR",
        update=_redraw,
        options=set(),
    )
    compare: EnumProperty(
        name="Compare",
        description="Show the edit beside what was there before it",
        items=[
            ("OFF", "Off", "Show the edit only"),
            ("WIPE", "Wipe", "Before to the left of a line that can be dragged, and the edit to the right of it"),
            ("SIDE", "Side by Side", "Before in the left half of the preview, and the edit in the right one"),
        ],
        default="OFF",
        update=_redraw,
        options=set(),
    )
    last_compare: StringProperty(description="What the key turns on", default="WIPE", options={"HIDDEN"})
    divider: FloatProperty(
        name="Divider",
        description="Where the line between before and after is, from the left edge of the picture to the right one",
        min=0.0,
        max=1.0,
        default=0.5,
        subtype="FACTOR",
        update=_redraw,
        options=set(),
    )
    live: BoolProperty(
        name="Live Preview",
        description="Show in a corner of the preview how far an edit of this strip is that is being made",
        default=True,
        update=_redraw,
        options=set(),
    )


def view() -> FATEZERO_PG_view:
    """What is set now."""
    return bpy.context.window_manager.fatezero_view


def register() -> None:
    bpy.types.WindowManager.fatezero_view = PointerProperty(type=FATEZERO_PG_view)


def unregister() -> None:
    del bpy.types.WindowManager.fatezero_view
