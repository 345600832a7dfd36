"""The prompts, the settings, and what an edited strip was made from."""

from __future__ import annotations

import bpy

from .. import compat, jobs, reimport
from .base import OfResult, Sidebar, active_strip
from .text import TEXT_SCALE, draw_text, draw_trouble
from .words import FATEZERO_PT_words


class FATEZERO_PT_edit(Sidebar, bpy.types.Panel):
    bl_label = "Edit by Words"

    def draw(self, context) -> None:
        scene = compat.sequencer_scene(context)
        settings, session = scene.fatezero, jobs.session
        layout = self.layout
        column = layout.column()
        for name in ("source", "target"):
            part = column.column(align=True)
            part.enabled = name == "source" or settings.preset != "reconstruct"
            head = part.row()
            head.label(text=FATEZERO_PT_edit.prompts[name])
            if name == "source":
                head.menu("FATEZERO_MT_prompts", text="", icon="BOOKMARKS")
            part.prop(settings, name, text="")
        split = column.column()
        split.use_property_split, split.use_property_decorate = True, False
        split.prop(settings, "preset")
        split.row().prop(settings, "quality", expand=True)
        row = layout.row()
        row.scale_y = 1.5
        row.operator("fatezero.edit_strip", icon="SHADERFX")
        width = context.region.width
        if session.trouble and all(session.trouble is not job.trouble for job in session.jobs):
            draw_trouble(layout, session.trouble, width)

    prompts = {"source": "What is in the strip", "target": "What shall be there instead"}


class FATEZERO_PT_settings(Sidebar, bpy.types.Panel):
    bl_label = "Settings"
    bl_parent_id = "FATEZERO_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw_header_preset(self, context) -> None:
        if compat.sequencer_scene(context).fatezero.changed_settings():
            self.layout.operator("fatezero.reset_to_preset", text="", icon="LOOP_BACK", emboss=False)

    def draw(self, context) -> None:
        settings = compat.sequencer_scene(context).fatezero
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        column = layout.column()
        column.prop(settings, "model")
        if settings.model == "FOLDER":
            column.prop(settings, "model_folder")
        elif settings.model == "NAMED":
            column.prop(settings, "model_name")
        column.operator("fatezero.tune_on_strip", icon="SHAPEKEY_DATA", text="Tune on This Strip…")
        changed, taken = settings.changed_settings(), settings.preset_words()
        column = layout.column(align=True)
        draw_setting(column, settings, changed, "steps")
        draw_setting(column, settings, changed, "guidance")
        column = layout.column(align=True)
        draw_setting(column, settings, changed, "cross_end", slider=True)
        draw_setting(column, settings, changed, "self_end", slider=True)
        row = layout.row()
        row.active = settings.preset != "reconstruct"
        draw_setting(row, settings, changed, "new_word_strength")
        column = layout.column(align=True)
        draw_setting(column, settings, changed, "blend_source", placeholder=" ".join(taken[0]))
        draw_setting(column, settings, changed, "blend_target", placeholder=" ".join(taken[1]))
        draw_setting(column, settings, changed, "mask")
        draw_setting(column, settings, changed, "blend_threshold", slider=True)
        column = layout.column()
        column.active = bool(settings.blend_words("source") or settings.own_mask_action)
        draw_setting(column, settings, changed, "keep_background")
        column = layout.column()
        draw_setting(column, settings, changed, "anchor_cuts")
        draw_setting(column, settings, changed, "anchor_every")
        draw_setting(column, settings, changed, "steady")


class FATEZERO_PT_result(OfResult, Sidebar, bpy.types.Panel):
    bl_label = "Made by FateZero"
    bl_order = 4
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        origin = reimport.origin_of(active_strip(context))
        column = self.layout.column()
        for label, value in (
            ("From", origin.strip),
            ("Source", origin.source),
            ("Target", origin.target),
            ("Model", origin.model),
            ("Engine", origin.engine),
        ):
            split = column.split(factor=0.25)
            name = split.column()
            name.scale_y = TEXT_SCALE
            name.label(text=label)
            draw_text(split.column(), [value], context.region.width * 0.75, translate=False)


def draw_setting(column, settings, changed: set[str], name: str, **how) -> None:
    """A setting and, where it is not as the preset has it, the way back."""
    row = column.row(align=True)
    row.prop(settings, name, **how)
    if name in changed:
        row.operator("fatezero.reset_setting", text="", icon="LOOP_BACK", emboss=False).setting = name
    else:
        row.label(icon="BLANK1")


CLASSES = (FATEZERO_PT_edit, FATEZERO_PT_words, FATEZERO_PT_settings, FATEZERO_PT_result)
