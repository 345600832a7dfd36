"""Sentences in panels: broken into lines that fit, and what went wrong with the way out."""

from __future__ import annotations

import blf
import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from ..trouble import Trouble

TEXT_SCALE = 0.8
"""Height of a line of a longer text, of a button's."""


def draw_part(layout, heading: str):
    """A box with a heading, for a part of the preferences; what is drawn in it."""
    column = layout.box().column()
    column.label(text=heading)
    return column


def draw_trouble(layout, trouble: Trouble, width: float) -> None:
    """What went wrong and the way out."""
    draw_text(layout.box().column(), trouble.told(rpt_), width, icon="ERROR", translate=False)


def draw_text(column, sentences: list[str], width: float, icon: str = "NONE", translate: bool = True) -> None:
    """Sentences as lines that fit `width` pixels."""
    scale = bpy.context.preferences.system.ui_scale
    column.scale_y = TEXT_SCALE
    room = width - (90 if icon != "NONE" else 50) * scale
    blf.size(0, 11 * scale)
    for sentence in sentences:
        for line in lines_of(iface_(sentence) if translate else sentence, room):
            column.label(text=line, icon=icon, translate=False)
            icon = "BLANK1" if icon != "NONE" else icon


def lines_of(sentence: str, room: float) -> list[str]:
    """Lines of at most `room` pixels in the current font: broken at spaces, and within words that are longer."""
    lines = [""]
    for word in sentence.split():
        joined = f"{lines[-1]} {word}".strip()
        if blf.dimensions(0, joined)[0] <= room:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and blf.dimensions(0, lines[-1] + letter)[0] > room:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]
