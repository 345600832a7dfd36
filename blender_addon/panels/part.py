"""Which part of the strip is edited, in what size, and what that will take."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import chosen, compat, estimates, extent, strips
from ..protocol.settings import BUILTIN_MODEL, EditSettings, draft_of
from . import figures
from .base import Sidebar


class FATEZERO_PT_part(Sidebar, bpy.types.Panel):
    bl_label = "Part and Size"
    bl_parent_id = "FATEZERO_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        scene = compat.sequencer_scene(context)
        work, layout = scene.fatezero_work, self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(work, "frames")
        if work.frames == "RANGE":
            column = layout.column(align=True)
            column.prop(work, "first")
            column.prop(work, "last")
        column = layout.column(align=True)
        column.prop(work, "step")
        row = column.row(align=True)
        row.active = work.step > 1
        row.prop(work, "between", expand=True)
        layout.prop(work, "percent", slider=True)
        if work.step > 1:
            text = {
                "HOLD": "Each edited frame is held for {count} frames",
                "MOTION": "One of {count} frames is edited; motion fills the others",
            }[work.between]
            layout.label(text=iface_(text).format(count=work.step), icon="INFO", translate=False)
        strip = strips.selected(scene)
        if strip is not None:
            layout.label(text=cost_of(scene, strip), icon="TIME", translate=False)


def cost_of(scene: bpy.types.Scene, strip) -> str:
    """What editing the strip will take, in a line; nothing is looked up on the disk."""
    settings, work = scene.fatezero, scene.fatezero_work
    frames, count = extent.count_of(strip, scene)
    box = extent.visible_box(scene, strip)
    width, height = box[2:] if box else (scene.render.resolution_x, scene.render.resolution_y)
    width, height = width * work.percent // 100, height * work.percent // 100
    model = {"BUILTIN": BUILTIN_MODEL, "NAMED": settings.model_name.strip()}.get(settings.model, "")
    asked = EditSettings(source="", target="", steps=settings.steps)
    if settings.quality == "DRAFT":
        asked = draft_of(asked)
    amount = estimates.Amount(frames, asked.steps, width * height, model, work.keyframe_step, asked.reuse)
    text = figures.cost(frames, count, estimates.of([amount], chosen.name()))
    return f"{text} ({width} x {height})"


CLASSES = (FATEZERO_PT_part,)
