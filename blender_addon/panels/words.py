"""The prompts' words as chips: which change, which the model does not read, which may change their shape."""

from __future__ import annotations

import blf
import bpy

from .. import compat, jobs, words
from ..protocol.messages import WordSeen
from .base import Sidebar

ICONS = {"kept": "NONE", "goes": "REMOVE", "new": "ADD", "cut": "ERROR"}
MOST = 48
"""Chips drawn for a prompt; the rest of a longer one is only counted."""


class FATEZERO_PT_words(Sidebar, bpy.types.Panel):
    bl_label = "Words"
    bl_parent_id = "FATEZERO_PT_edit"

    @classmethod
    def poll(cls, context) -> bool:
        settings = compat.sequencer_scene(context).fatezero
        return bool(settings.source.strip())

    def draw(self, context) -> None:
        settings = compat.sequencer_scene(context).fatezero
        column = self.layout.column()
        for role, marked in zip(
            ("source", "target"), words.compare(settings.source, settings.target, _seen(settings.source))
        ):
            if marked and (role == "source" or settings.preset != "reconstruct"):
                _draw_chips(column.column(align=True), role, marked, settings.blend_words(role), context.region.width)
        column.operator("fatezero.test_reconstruction", icon="FILE_REFRESH")


def _seen(source: str) -> list[WordSeen]:
    """What the engine has found out about this source prompt's words: of the last job that has it."""
    return next((job.words for job in reversed(jobs.session.jobs) if job.words and job.settings.source == source), [])


def _draw_chips(column, role: str, marked: list[words.Word], blended: list[str], width: float) -> None:
    scale = bpy.context.preferences.system.ui_scale
    room, used, row = width - 50 * scale, float("inf"), None
    blf.size(0, 11 * scale)
    for word in marked[:MOST]:
        wide = blf.dimensions(0, word.text)[0] + (40 if ICONS[word.state] != "NONE" else 20) * scale
        if used + wide > room:
            row, used = column.row(align=True), 0.0
            row.alignment = "LEFT"
        used += wide
        chip = row.row(align=True)
        chip.alignment = "LEFT"
        chip.alert = word.state == "cut"
        button = chip.operator(
            "fatezero.blend_word",
            text=word.text,
            icon=ICONS[word.state],
            depress=word.text in blended,
            translate=False,
        )
        button.word, button.role, button.state, button.in_pieces = word.text, role, word.state, word.in_pieces
    if len(marked) > MOST:
        column.label(text=f"+ {len(marked) - MOST}", translate=False)
