"""Which words' masks can be shown: those of the strip that the user is at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy

from .. import compat, mask_sets, strips
from ..mask_sets import MaskSet
from . import settings


@dataclass(frozen=True)
class Layer:
    """One mask over the picture, at one frame."""

    path: Path
    colour: tuple[float, float, float]


_sets: dict[str, MaskSet] = {}
"""Those whose words are listed, by job."""
_strip: tuple[str, str] = ("", "")
"""Names of the scene and of the strip whose words are listed."""
_remembered: dict[tuple[str, str], tuple[bool, tuple[float, ...]]] = {}
"""For words by kind, whether they were shown and in which colour: a strip's words come and go with the current frame."""


def strip_of(scene: bpy.types.Scene):
    """The strip whose words are listed, if it is in the scene."""
    return strips.named(scene, _strip[1]) if _strip[0] == scene.name else None


def mask_set(word: settings.FATEZERO_PG_word) -> MaskSet | None:
    """The set that a listed word is of."""
    return _sets.get(word.mask_set)


def sync(scene: bpy.types.Scene) -> bool:
    """List the words of the strip that the user is at; whether others are listed now. Not while drawing."""
    global _sets, _strip
    strip = _subject(scene)
    sets = mask_sets.for_strip(scene, strip) if strip else []
    rows = [row for kind in ("word", "blend") for row in _first_of(sets, kind)]
    _sets = {found.job_id: found for found, _ in rows}
    _strip = (scene.name, strip.name) if strip else ("", "")
    words = settings.view().words
    if [(word.mask_set, word.number) for word in words] == [(found.job_id, number) for found, number in rows]:
        return False
    _remember(words)
    words.clear()
    for place, (found, number) in enumerate(rows):
        given = found.words[number]
        word = words.add()
        word.name, word.kind, word.mask_set, word.number = given.word, given.kind, found.job_id, number
        usual = False, settings.COLOURS[place % len(settings.COLOURS)]
        word.shown, word.colour = _remembered.get((word.name, word.kind), usual)
    return True


def shown(scene: bpy.types.Scene) -> list[Layer]:
    """The masks to be drawn at the scene's frame, lowest first. Reads no disk."""
    strip = strip_of(scene)
    if strip is None or strip.mute:
        return []
    found = []
    for word in settings.view().words:
        masks = mask_set(word)
        if not word.shown or masks is None:
            continue
        frame = mask_sets.clip_frame(masks, strip, scene.frame_current)
        if frame is not None and (path := masks.path(word.number, frame)):
            found.append(Layer(path, tuple(word.colour)))
    return found


def forget() -> None:
    """List nothing: another file is open."""
    global _sets, _strip
    _sets, _strip = {}, ("", "")


def _subject(scene: bpy.types.Scene):
    """The selected strip, else the uppermost one at the current frame, of those that have masks."""
    editor, frame = scene.sequence_editor, scene.frame_current
    if editor is None or not mask_sets.all():
        return None
    chosen = strips.selected(scene)
    if chosen and mask_sets.for_strip(scene, chosen):
        return chosen
    here = [
        strip
        for strip in compat.all_strips(editor)
        if compat.left_handle(strip) <= frame < compat.right_handle(strip) and not strip.mute
    ]
    here.sort(key=lambda strip: strip.channel, reverse=True)
    return next((strip for strip in here if mask_sets.for_strip(scene, strip)), None)


def _first_of(sets: list[MaskSet], kind: str) -> list[tuple[MaskSet, int]]:
    """The words of that kind of the first set that has some."""
    for found in sets:
        if rows := [(found, number) for number, word in enumerate(found.words) if word.kind == kind]:
            return rows
    return []


def _remember(words) -> None:
    for word in words:
        _remembered[word.name, word.kind] = word.shown, tuple(word.colour)
