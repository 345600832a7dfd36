"""Many strips at once, and how the newest batch stands."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import batches, compat
from .base import Sidebar
from .text import draw_text

SHOWN = 5
"""Troubles of a batch that are shown whole; the others stand in the list of jobs."""


class FATEZERO_UL_targets(bpy.types.UIList):
    def draw_item(self, _context, layout, _data, item, _icon, _active, _property, _index) -> None:
        layout.prop(item, "text", text="", emboss=False)


class FATEZERO_PT_batch(Sidebar, bpy.types.Panel):
    bl_label = "Batch"
    bl_order = 5
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        layout, work = self.layout, compat.sequencer_scene(context).fatezero_work
        column = layout.column(align=True)
        column.operator("fatezero.batch", text="Edit Strips…", icon="SHADERFX").what = "EDIT"
        column.operator("fatezero.batch", text="Re-render Results…", icon="FILE_REFRESH").what = "AGAIN"
        layout.label(text="Variations of One Strip")
        row = layout.row()
        row.template_list("FATEZERO_UL_targets", "", work, "targets", work, "target_index", rows=3)
        side = row.column(align=True)
        side.operator("fatezero.add_target", text="", icon="ADD")
        side.operator("fatezero.remove_target", text="", icon="REMOVE")
        layout.operator("fatezero.batch", text="Edit in Variations…", icon="DUPLICATE").what = "VARIATIONS"
        column = layout.column(align=True)
        column.operator("fatezero.send_to_farm", icon="EXPORT")
        column.operator("fatezero.place_farm_results", icon="IMPORT")
        if batches.current:
            draw_batch(layout.box().column(), batches.current, context.region.width)


def draw_batch(column, batch: batches.Batch, width: float) -> None:
    """How a batch stands, or what has become of it."""
    if batch.under_way:
        done, frames = batch.pictures
        column.progress(factor=done / max(frames, 1), text=batch.summary(), translate=False)
    else:
        column.label(text=batch.summary(), icon="ERROR" if batch.troubles else "CHECKMARK", translate=False)
    for name, trouble in batch.troubles[:SHOWN]:
        draw_text(column.column(), [f"{name}: {' '.join(trouble.told(rpt_))}"], width, icon="ERROR", translate=False)


CLASSES = (FATEZERO_UL_targets, FATEZERO_PT_batch)
