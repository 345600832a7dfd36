"""The add-on's operators: thin, over `jobs`."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import StringProperty

from . import compat, installer, jobs, preferences, strips
from .trouble import Trouble


def begin(context: bpy.types.Context, scene: str = "", strip: str = "") -> jobs.Job:
    """Begin to edit the strip that those names name, or the selected one; the timer carries it on."""
    source = strips.choose(context, scene, strip)
    job = jobs.session.edit(source, bpy.data.scenes[source.scene].fatezero.as_edit())
    jobs.watch()
    return job


def _refuse(operator: bpy.types.Operator, trouble: Trouble) -> set[str]:
    """Say what is wrong: in the panel, and where operators report."""
    jobs.session.trouble = trouble
    jobs.redraw()
    operator.report({"ERROR"}, " ".join(trouble.told(rpt_)))
    return {"CANCELLED"}


class FATEZERO_OT_edit_strip(bpy.types.Operator):
    """Edit the selected strip as the prompts say; the result becomes a new strip above it"""

    bl_idname = "fatezero.edit_strip"
    bl_label = "Edit Strip"

    scene: StringProperty(name="Scene", description="Empty: the sequencer's", options={"SKIP_SAVE", "HIDDEN"})
    strip: StringProperty(name="Strip", description="Empty: the selected one", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def poll(cls, context) -> bool:
        if jobs.session.busy:
            cls.poll_message_set("A strip is being edited; wait for it or cancel it")
        return not jobs.session.busy

    def invoke(self, context, _event) -> set[str]:
        """Begin, and leave the rest to the timer: Blender stays usable."""
        try:
            begin(context, self.scene, self.strip)
        except Trouble as trouble:
            return _refuse(self, trouble)
        return {"FINISHED"}

    def execute(self, context) -> set[str]:
        """Edit, and return when the new strip is there: for scripts."""
        try:
            job = begin(context, self.scene, self.strip)
        except Trouble as trouble:
            return _refuse(self, trouble)
        jobs.wait()
        if job.trouble:
            return _refuse(self, job.trouble)
        return {"FINISHED"} if job.state == "done" else {"CANCELLED"}


class FATEZERO_OT_cancel(bpy.types.Operator):
    """End the edit that is under way"""

    bl_idname = "fatezero.cancel"
    bl_label = "Cancel Edit"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.busy and not jobs.session.job.cancelling

    def execute(self, _context) -> set[str]:
        jobs.session.job.cancel(jobs.session)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_start_engine(bpy.types.Operator):
    """Start the engine now; Edit Strip does so too, when it is needed"""

    bl_idname = "fatezero.start_engine"
    bl_label = "Start Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.engine == "off"

    def execute(self, _context) -> set[str]:
        jobs.session.start_engine()
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_stop_engine(bpy.types.Operator):
    """End the engine, and free the memory that it holds"""

    bl_idname = "fatezero.stop_engine"
    bl_label = "Stop Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.engine != "off"

    def execute(self, _context) -> set[str]:
        jobs.session.stop_engine()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_install_engine(bpy.types.Operator):
    """Download the engine's parts and install them in the add-on's own folder"""

    bl_idname = "fatezero.install_engine"
    bl_label = "Install Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        if installer.current and installer.current.running:
            cls.poll_message_set("The engine is being installed")
            return False
        return True

    def invoke(self, context, event) -> set[str]:
        if not bpy.app.online_access:
            return self.execute(context)
        download, disk = installer.sizes()
        message = iface_("This downloads about {download:g} GB and takes about {disk:g} GB on disk in {folder}.")
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Install Engine"),
            message=message.format(download=download, disk=disk, folder=preferences.venv_folder()),
            confirm_text=iface_("Install"),
        )

    def execute(self, _context) -> set[str]:
        if not bpy.app.online_access:
            trouble = Trouble(
                "Blender's online access is off, and the engine has to be downloaded.",
                "Turn on Allow Online Access in the preferences (System, Network).",
            )
            return _refuse(self, trouble)
        jobs.session.stop_engine()
        jobs.session.trouble = None
        installer.start(Path(__file__).parent, preferences.venv_folder())
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_select_result(bpy.types.Operator):
    """Select the strip that the last edit made"""

    bl_idname = "fatezero.select_result"
    bl_label = "Select Result"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.job is not None and bool(jobs.session.job.result)

    def execute(self, context) -> set[str]:
        job = jobs.session.job
        scene = bpy.data.scenes.get(job.source.scene)
        result = scene and strips.named(scene, job.result)
        if result is None:
            return _refuse(self, Trouble("The strip is no longer here; its files are in {folder}.", folder=job.folder))
        for strip in compat.all_strips(scene.sequence_editor):
            strip.select = strip == result
        scene.sequence_editor.active_strip = result
        return {"FINISHED"}


CLASSES = (
    FATEZERO_OT_edit_strip,
    FATEZERO_OT_cancel,
    FATEZERO_OT_start_engine,
    FATEZERO_OT_stop_engine,
    FATEZERO_OT_install_engine,
    FATEZERO_OT_select_result,
)
