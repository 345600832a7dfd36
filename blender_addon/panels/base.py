"""What the panels share."""

from __future__ import annotations

from .. import compat, reimport


class Sidebar:
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "FateZero"


def active_strip(context):
    editor = compat.sequencer_scene(context).sequence_editor
    return editor.active_strip if editor else None


class OfResult:
    """Is there while the active strip is a result."""

    @classmethod
    def poll(cls, context) -> bool:
        strip = active_strip(context)
        return strip is not None and reimport.TAG in strip
