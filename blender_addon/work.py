"""How much of a strip the next edit takes, and what a batch edits: kept with the scene, saved with the file."""

from __future__ import annotations

import bpy
from bpy.props import CollectionProperty, EnumProperty, IntProperty, PointerProperty, StringProperty


class FATEZERO_PG_target(bpy.types.PropertyGroup):
    """One of several target prompts for the same strip."""

    text: StringProperty(
        name="Target",
        description="What shall be there instead, in one of the variations",
        options=set(),
    )


class FATEZERO_PG_work(bpy.types.PropertyGroup):
    """Frames and size that are worked on, and target prompts of variations."""

    frames: EnumProperty(
        name="Frames",
        description="Which frames of the strip are edited",
        items=[
            ("ALL", "Whole Strip", "All frames between the strip's handles"),
            ("PREVIEW", "Preview Range", "Those within the sequencer's preview range"),
            ("RANGE", "From, To", "Those within a range of its own"),
        ],
        options=set(),
    )
    first: IntProperty(name="From", description="First frame to edit", min=0, default=1, options=set())
    last: IntProperty(name="To", description="Last frame to edit", min=0, default=24, options=set())
    step: IntProperty(
        name="Hold",
        description="Edit the first of so many frames and hold it for all of them: a quick try, not a smooth clip",
        min=1,
        max=24,
        default=1,
        options=set(),
    )
    percent: IntProperty(
        name="Size",
        description="Work on the frames in this part of the project's size; the result is shown in full size. "
        "It saves disk and transfer, not the engine's time: that goes by the model's own size",
        subtype="PERCENTAGE",
        min=10,
        max=100,
        default=100,
        options=set(),
    )
    targets: CollectionProperty(
        type=FATEZERO_PG_target, name="Targets", description="Target prompts of the variations", options=set()
    )
    target_index: IntProperty(name="Variation", description="The target prompt that is chosen in the list")


CLASSES = (FATEZERO_PG_target, FATEZERO_PG_work)


def register() -> None:
    bpy.types.Scene.fatezero_work = PointerProperty(type=FATEZERO_PG_work)


def unregister() -> None:
    del bpy.types.Scene.fatezero_work
