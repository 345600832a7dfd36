"""Editing a strip."""

from __future__ import annotations

import bpy
from bpy.props import StringProperty

from .. import again, extent, jobs, prompt_book
from ..job import Job
from ..trouble import Trouble
from .base import refuse, see_through


def begin(context: bpy.types.Context, scene: str = "", strip: str = "") -> Job:
    """Begin to edit the strip that those names name, or the selected one; the timer carries it on."""
    source = extent.chosen(context, scene, strip)
    job = again.Making(source, bpy.data.scenes[source.scene].fatezero.as_edit()).begin()
    prompt_book.used(job.settings.source, job.settings.target)
    jobs.watch()
    return job


class FATEZERO_OT_edit_strip(bpy.types.Operator):
    """Edit the selected strip as the prompts say; the result becomes a new strip above it"""

    bl_idname = "fatezero.edit_strip"
    bl_label = "Edit Strip"

    scene: StringProperty(name="Scene", description="Empty: the sequencer's", options={"SKIP_SAVE", "HIDDEN"})
    strip: StringProperty(name="Strip", description="Empty: the selected one", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context, _event) -> set[str]:
        """Begin, and leave the rest to the timer: Blender stays usable."""
        try:
            begin(context, self.scene, self.strip)
        except Trouble as trouble:
            return refuse(self, trouble)
        return {"FINISHED"}

    def execute(self, context) -> set[str]:
        """Edit, and return when the new strip is there, or something is in its way: for scripts."""
        try:
            job = begin(context, self.scene, self.strip)
        except Trouble as trouble:
            return refuse(self, trouble)
        return see_through(self, job)


CLASSES = (FATEZERO_OT_edit_strip,)
