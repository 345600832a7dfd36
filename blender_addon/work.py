"""How much of a strip the next edit takes, and what a batch edits: kept with the scene, saved with the file."""

from __future__ import annotations

import bpy
from bpy.props import CollectionProperty, EnumProperty, IntProperty, PointerProperty, StringProperty

from .protocol.settings import MAX_KEYFRAME_STEP


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
        name="Frame Step",
        description="Edit one of so many frames: it takes as much less time. 1: every frame",
        min=1,
        max=MAX_KEYFRAME_STEP,
        default=1,
        options=set(),
    )
    between: EnumProperty(
        name="Between",
        description="What the frames between the edited ones show",
        items=[
            ("MOTION", "Motion", "What the edit changes, carried along the clip's own motion from the edited frames"),
            ("HOLD", "Hold", "The edited frame before: a quick try, not a smooth clip"),
        ],
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

    @property
    def held(self) -> int:
        """For so many frames each edited one is shown, and only these are sent."""
        return self.step if self.between == "HOLD" else 1

    @property
    def keyframe_step(self) -> int:
        """Of so many frames that are sent one is edited."""
        return self.step if self.between == "MOTION" else 1

    targets: CollectionProperty(
        type=FATEZERO_PG_target, name="Targets", description="Target prompts of the variations", options=set()
    )
    target_index: IntProperty(name="Variation", description="The target prompt that is chosen in the list")


CLASSES = (FATEZERO_PG_target, FATEZERO_PG_work)


def register() -> None:
    bpy.types.Scene.fatezero_work = PointerProperty(type=FATEZERO_PG_work)


def unregister() -> None:
    del bpy.types.Scene.fatezero_work
