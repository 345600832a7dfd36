"""Masks: the words of the strip that one is at, how they are shown, and the user's own mask."""

from __future__ import annotations

import bpy

from .. import compat
from ..preview import handler, settings
from .base import Sidebar
from .text import draw_text


class FATEZERO_PT_masks(Sidebar, bpy.types.Panel):
    bl_label = "Masks"
    bl_order = 2
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        handler.wake()
        view, layout = settings.view(), self.layout
        layout.operator("fatezero.show_masks", icon="MOD_MASK")
        if not view.words:
            draw_text(
                layout.column(),
                ["Show Masks finds where the model sees each word of the source prompt."],
                context.region.width,
            )
            return
        layout.prop(view, "masks", text="Show over the Preview")
        column = layout.column(align=True)
        column.active = view.masks
        blend = False
        for word in view.words:
            if word.kind == "blend" and not blend:
                blend = True
                column.separator()
                column.label(text="Mask of the Edit")
            draw_word(column.row(align=True), word)
        draw_display(layout.column(), view)


def draw_word(row, word: settings.FATEZERO_PG_word) -> None:
    """A word as a button that shows its mask, in which colour, and a way into the timeline."""
    row.prop(word, "shown", text=word.name, toggle=True, translate=False)
    colour = row.row(align=True)
    colour.scale_x = 0.5
    colour.prop(word, "colour", text="")
    operator = row.operator("fatezero.add_mask_strip", text="", icon="SEQ_SEQUENCER")
    operator.mask_set, operator.number = word.mask_set, word.number


def draw_display(column, view: settings.FATEZERO_PG_view) -> None:
    """How masks are drawn."""
    column.active = view.masks
    column.use_property_split, column.use_property_decorate = True, False
    column.row().prop(view, "style", expand=True)
    column.prop(view, "opacity", slider=True)
    column.prop(view, "threshold", slider=True)


class FATEZERO_PT_own_mask(Sidebar, bpy.types.Panel):
    bl_label = "Own Mask"
    bl_parent_id = "FATEZERO_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        scene = compat.sequencer_scene(context)
        mine, column = scene.fatezero, self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        column.prop(mine, "own_mask_mode")
        if mine.own_mask_mode == "NONE":
            return
        column.row().prop(mine, "own_mask_kind", expand=True)
        if mine.own_mask_kind == "MASK":
            column.prop(mine, "own_mask")
        elif scene.sequence_editor:
            editor = scene.sequence_editor
            column.prop_search(mine, "own_mask_strip", editor, compat.all_strips_property(editor), icon="SEQ_SEQUENCER")
        column.prop(mine, "own_mask_invert")


class FATEZERO_PT_compare(Sidebar, bpy.types.Panel):
    bl_label = "Compare"
    bl_order = 3
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, _context) -> None:
        draw_compare(self.layout, settings.view())


def draw_compare(layout, view: settings.FATEZERO_PG_view) -> None:
    """What is shown beside the edit."""
    layout.row().prop(view, "compare", expand=True)
    if view.compare == "WIPE":
        layout.prop(view, "divider", slider=True)
    layout.prop(view, "live")


def draw_overlay(panel, _context) -> None:
    """What is drawn over the preview, at the end of the preview's overlays, where one looks for such."""
    view, layout = settings.view(), panel.layout
    layout.separator()
    layout.label(text="FateZero")
    layout.prop(view, "masks")
    draw_compare(layout, view)


CLASSES = (FATEZERO_PT_own_mask, FATEZERO_PT_masks, FATEZERO_PT_compare)


def register() -> None:
    bpy.types.SEQUENCER_PT_preview_overlay.append(draw_overlay)


def unregister() -> None:
    bpy.types.SEQUENCER_PT_preview_overlay.remove(draw_overlay)
