"""The add-on in other languages: a file for each, a dictionary from the English words to theirs."""

from __future__ import annotations

import bpy

from . import de

LOCALES = {"de_DE": de.WORDS}
"""By Blender's names of them."""
_CONTEXTS = ("*", bpy.app.translations.contexts.operator_default)
"""Buttons of operators are looked up under a context of their own."""


def register() -> None:
    bpy.app.translations.register(
        __package__,
        {
            locale: {(context, english): theirs for english, theirs in words.items() for context in _CONTEXTS}
            for locale, words in LOCALES.items()
        },
    )


def unregister() -> None:
    bpy.app.translations.unregister(__package__)
