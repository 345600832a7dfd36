"""Help with prompts and presets."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_tip as tip_
from bpy.props import BoolProperty, EnumProperty, StringProperty

from .. import compat, extent, jobs
from ..trouble import Trouble
from .base import refuse

_STATES = {
    "kept": "This word is in both prompts: its place in the picture is kept.",
    "goes": "The target prompt has no such word: what it names is to change.",
    "new": "The source prompt has no such word: it is what comes in.",
    "cut": "The model does not read this word: a prompt may have about 75.",
}
_PIECES = "The tokenizer spells it in several pieces: the model may not know it."
_BLEND = "Click to choose whether its place in the picture may change its shape (blend words)"


class FATEZERO_OT_reset_setting(bpy.types.Operator):
    """Set this as the preset has it"""

    bl_idname = "fatezero.reset_setting"
    bl_label = "Reset to Preset"
    bl_options = {"UNDO", "INTERNAL"}

    setting: StringProperty(name="Setting", description="Which one", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context) -> set[str]:
        settings = compat.sequencer_scene(context).fatezero
        values = settings.preset_values()
        if self.setting not in values:
            return {"CANCELLED"}
        setattr(settings, self.setting, values[self.setting])
        return {"FINISHED"}


class FATEZERO_OT_reset_to_preset(bpy.types.Operator):
    """Set everything as the preset has it, but for the model"""

    bl_idname = "fatezero.reset_to_preset"
    bl_label = "Reset All to Preset"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        return bool(compat.sequencer_scene(context).fatezero.changed_settings())

    def execute(self, context) -> set[str]:
        settings = compat.sequencer_scene(context).fatezero
        for name, value in settings.preset_values().items():
            setattr(settings, name, value)
        return {"FINISHED"}


class FATEZERO_OT_blend_word(bpy.types.Operator):
    """Choose whether this word's place in the picture may change its shape"""

    bl_idname = "fatezero.blend_word"
    bl_label = "Blend Word"
    bl_options = {"UNDO", "INTERNAL"}

    word: StringProperty(name="Word", description="Which one", options={"SKIP_SAVE", "HIDDEN"})
    role: EnumProperty(
        name="Prompt",
        description="Which prompt the word is of",
        items=[
            ("source", "Source", "What is in the strip"),
            ("target", "Target", "What shall be there instead"),
        ],
        options={"SKIP_SAVE", "HIDDEN"},
    )
    state: StringProperty(name="State", description="What becomes of it", options={"SKIP_SAVE", "HIDDEN"})
    in_pieces: BoolProperty(
        name="In Pieces", description="The tokenizer has no such word", options={"SKIP_SAVE", "HIDDEN"}
    )

    @classmethod
    def description(cls, _context, properties) -> str:
        texts = (_STATES.get(properties.state, ""), _PIECES if properties.in_pieces else "", _BLEND)
        return " ".join(tip_(text) for text in texts if text)

    def execute(self, context) -> set[str]:
        settings = compat.sequencer_scene(context).fatezero
        words = settings.blend_words(self.role)
        words = [word for word in words if word != self.word] if self.word in words else [*words, self.word]
        setattr(settings, f"blend_{self.role}", " ".join(words))
        return {"FINISHED"}


class FATEZERO_OT_test_reconstruction(bpy.types.Operator):
    """Have the strip made again without any change: what is lost then, no edit can keep"""

    bl_idname = "fatezero.test_reconstruction"
    bl_label = "Test Reconstruction"

    def execute(self, context) -> set[str]:
        try:
            source = extent.chosen(context)
            jobs.session.edit(source, bpy.data.scenes[source.scene].fatezero.as_reconstruction())
        except Trouble as trouble:
            return refuse(self, trouble)
        jobs.watch()
        return {"FINISHED"}


CLASSES = (
    FATEZERO_OT_reset_setting,
    FATEZERO_OT_reset_to_preset,
    FATEZERO_OT_blend_word,
    FATEZERO_OT_test_reconstruction,
)
