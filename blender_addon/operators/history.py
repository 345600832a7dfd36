"""Prompts that were used before, and those that are to stay."""

from __future__ import annotations

import bpy
from bpy.props import StringProperty

from .. import compat, jobs, prompt_book


class FATEZERO_OT_use_prompts(bpy.types.Operator):
    """Put this pair of prompts into the panel"""

    bl_idname = "fatezero.use_prompts"
    bl_label = "Use Prompts"
    bl_options = {"UNDO"}

    source: StringProperty(name="Source", description="What is in the strip", options={"SKIP_SAVE"})
    target: StringProperty(name="Target", description="What shall be there instead", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, _context, properties) -> str:
        return f"{properties.source} → {properties.target}" if properties.source else ""

    def execute(self, context) -> set[str]:
        settings = compat.sequencer_scene(context).fatezero
        settings.source, settings.target = self.source, self.target
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_favourite_prompts(bpy.types.Operator):
    """Have the panel's pair of prompts stay in the menu, or no longer"""

    bl_idname = "fatezero.favourite_prompts"
    bl_label = "Toggle Favourite"

    @classmethod
    def poll(cls, context) -> bool:
        scene = compat.sequencer_scene(context)
        return scene is not None and bool(scene.fatezero.source.strip())

    def execute(self, context) -> set[str]:
        settings = compat.sequencer_scene(context).fatezero
        prompt_book.toggle_favourite(settings.source.strip(), settings.target.strip())
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_forget_prompts(bpy.types.Operator):
    """Remove all recent prompts from the menu; favourites stay"""

    bl_idname = "fatezero.forget_prompts"
    bl_label = "Clear Recent"

    @classmethod
    def poll(cls, _context) -> bool:
        return bool(prompt_book.read().recent)

    def execute(self, _context) -> set[str]:
        prompt_book.forget_recent()
        return {"FINISHED"}


CLASSES = (FATEZERO_OT_use_prompts, FATEZERO_OT_favourite_prompts, FATEZERO_OT_forget_prompts)
