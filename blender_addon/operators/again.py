"""Results made anew, their settings taken up again, and their versions."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, StringProperty

from .. import again, compat, jobs, reimport, strips, versions
from ..job import Job
from ..protocol.settings import in_full
from ..trouble import Trouble
from .base import refuse, see_through


class OfResult:
    """An operator on one result: the strip that is named, or else the active one."""

    scene: StringProperty(name="Scene", description="Empty: the sequencer's", options={"SKIP_SAVE", "HIDDEN"})
    strip: StringProperty(name="Strip", description="Empty: the active one", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context) -> bool:
        scene = compat.sequencer_scene(context)
        return scene is not None and scene.sequence_editor is not None

    def result(self, context) -> bpy.types.Strip:
        """The strip; `Trouble` where it is none that FateZero has made."""
        scene = bpy.data.scenes.get(self.scene) if self.scene else compat.sequencer_scene(context)
        found = scene and (strips.named(scene, self.strip) if self.strip else scene.sequence_editor.active_strip)
        if found is None or reimport.TAG not in found:
            raise Trouble("No result of FateZero is selected.", "Select a strip that it has made.")
        return found


class FATEZERO_OT_edit_again(OfResult, bpy.types.Operator):
    """Put the prompts and settings of this result back into the panel, and select the strip that it was made from"""

    bl_idname = "fatezero.edit_again"
    bl_label = "Edit Again"
    bl_options = {"UNDO"}

    def execute(self, context) -> set[str]:
        try:
            result = self.result(context)
            source, settings = again.source_strip(result), again.settings_of(reimport.origin_of(result))
        except Trouble as trouble:
            return refuse(self, trouble)
        scene = result.id_data
        scene.fatezero.show(settings)
        select_only(scene, source)
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_render_again(OfResult, bpy.types.Operator):
    """Make this result anew from its source as that is now; its pieces and copies follow unless they are locked"""

    bl_idname = "fatezero.render_again"
    bl_label = "Re-render"

    use_panel: BoolProperty(
        name="With the Panel's Settings",
        description="Take prompts and settings from the panel instead of those that the result was made with",
        options={"SKIP_SAVE"},
    )
    full: BoolProperty(
        name="In Full",
        description="Make a draft anew with all steps and all of the model in each, and otherwise with the same settings",
        options={"SKIP_SAVE"},
    )
    force: BoolProperty(
        name="Even if Nothing Changed",
        description="Make it anew even where source, prompts and settings are the same",
        options={"SKIP_SAVE"},
    )

    def invoke(self, context, _event) -> set[str]:
        """Begin, and leave the rest to the timer."""
        return self._begin(context)[0]

    def execute(self, context) -> set[str]:
        """Make it anew, and return when the new version is there, or something is in its way: for scripts."""
        answer, job = self._begin(context)
        if job is None:
            return answer
        return see_through(self, job)

    def _begin(self, context) -> tuple[set[str], Job | None]:
        try:
            result = self.result(context)
            settings = result.id_data.fatezero.as_edit() if self.use_panel else None
            if self.full:
                settings = in_full(settings or again.settings_of(reimport.origin_of(result)))
            wanted = again.of(result, settings, self.force)
            if wanted.why == "same":
                self.report({"INFO"}, "Nothing has changed: source, prompts and settings are the same")
                return {"CANCELLED"}, None
            job = wanted.begin()
        except Trouble as trouble:
            return refuse(self, trouble), None
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}, job


class FATEZERO_OT_show_version(OfResult, bpy.types.Operator):
    """Have this strip show this version of its result; copies and other pieces stay as they are"""

    bl_idname = "fatezero.show_version"
    bl_label = "Show Version"
    bl_options = {"REGISTER", "UNDO"}

    version: StringProperty(name="Version", description="The job that made it", options={"SKIP_SAVE", "HIDDEN"})

    def execute(self, context) -> set[str]:
        try:
            versions.show(self.result(context), self.version)
        except Trouble as trouble:
            return refuse(self, trouble)
        jobs.redraw()
        return {"FINISHED"}


def select_only(scene: bpy.types.Scene, strip) -> None:
    """Select the strip and nothing else."""
    for other in compat.all_strips(scene.sequence_editor):
        other.select = other == strip
    scene.sequence_editor.active_strip = strip


CLASSES = (FATEZERO_OT_edit_again, FATEZERO_OT_render_again, FATEZERO_OT_show_version)
