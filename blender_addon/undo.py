"""Undo of what a timer does: Blender pushes a step after an operator, and `ed.undo_push` would need a window.

A timer has no window but by `temp_override`, which is to be kept away from (see `standing`); an operator needs none.
"""

from __future__ import annotations

import bpy


class FATEZERO_OT_edited(bpy.types.Operator):
    """Let the user undo that an edit's strip was made"""

    bl_idname = "fatezero.edited"
    bl_label = "FateZero: Edit Strip"
    bl_options = {"UNDO", "INTERNAL"}

    def execute(self, _context) -> set[str]:
        return {"FINISHED"}


class FATEZERO_OT_rendered_again(bpy.types.Operator):
    """Let the user undo that a strip got new frames"""

    bl_idname = "fatezero.rendered_again"
    bl_label = "FateZero: Re-render"
    bl_options = {"UNDO", "INTERNAL"}

    def execute(self, _context) -> set[str]:
        return {"FINISHED"}


def push_edited() -> None:
    """Let the user undo the strip that was just made; within an operator, which undoes itself, this does nothing."""
    bpy.ops.fatezero.edited("EXEC_DEFAULT", True)


def push_rendered_again() -> None:
    """The same of the frames that a strip was just given."""
    bpy.ops.fatezero.rendered_again("EXEC_DEFAULT", True)


CLASSES = (FATEZERO_OT_edited, FATEZERO_OT_rendered_again)
