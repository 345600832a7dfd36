"""The menu of earlier prompts, beside the prompts."""

from __future__ import annotations

import bpy

from .. import compat, prompt_book
from ..prompt_book import Pair

CHARACTERS = 60
"""Of a pair of prompts in a menu; its tooltip shows all."""


class FATEZERO_MT_prompts(bpy.types.Menu):
    """Earlier prompts and favourites"""

    bl_label = "Prompts"

    def draw(self, context) -> None:
        settings, book, layout = compat.sequencer_scene(context).fatezero, prompt_book.read(), self.layout
        kept = Pair(settings.source.strip(), settings.target.strip()) in book.favourites
        text = "Remove from Favourites" if kept else "Add to Favourites"
        layout.operator("fatezero.favourite_prompts", text=text, icon="SOLO_ON" if kept else "SOLO_OFF")
        if book.favourites:
            layout.separator()
            layout.label(text="Favourites")
        for pair in book.favourites:
            draw_pair(layout, pair, "SOLO_ON")
        if book.recent:
            layout.separator()
            layout.label(text="Recent")
            for pair in book.recent:
                draw_pair(layout, pair, "BLANK1")
            layout.separator()
            layout.operator("fatezero.forget_prompts", icon="TRASH")


def draw_pair(layout, pair: Pair, icon: str) -> None:
    """An entry that puts the pair into the panel."""
    text = f"{pair.source} → {pair.target}"
    if len(text) > CHARACTERS:
        text = text[: CHARACTERS - 1] + "…"
    entry = layout.operator("fatezero.use_prompts", text=text, icon=icon, translate=False)
    entry.source, entry.target = pair.source, pair.target


CLASSES = (FATEZERO_MT_prompts,)
