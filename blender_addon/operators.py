"""The add-on's operators: thin, over `jobs`."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import StringProperty

from . import chosen, compat, folders, installer, jobs, strips, trial
from .job import Job
from .places import Remote
from .protocol.errors import ProtocolError
from .trouble import Trouble, as_is


def begin(context: bpy.types.Context, scene: str = "", strip: str = "") -> Job:
    """Begin to edit the strip that those names name, or the selected one; the timer carries it on."""
    source = strips.choose(context, scene, strip)
    job = jobs.session.edit(source, bpy.data.scenes[source.scene].fatezero.as_edit())
    jobs.watch()
    return job


def _refuse(operator: bpy.types.Operator, trouble: Trouble) -> set[str]:
    """Say what is wrong: in the panel, and where operators report."""
    jobs.session.trouble = trouble
    return _report(operator, trouble)


def _report(operator: bpy.types.Operator, trouble: Trouble) -> set[str]:
    jobs.redraw()
    operator.report({"ERROR"}, " ".join(trouble.told(rpt_)))
    return {"CANCELLED"}


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
            return _refuse(self, trouble)
        return {"FINISHED"}

    def execute(self, context) -> set[str]:
        """Edit, and return when the new strip is there, or something is in its way: for scripts."""
        try:
            job = begin(context, self.scene, self.strip)
        except Trouble as trouble:
            return _refuse(self, trouble)
        jobs.wait(job=job)
        if job.trouble:
            return _refuse(self, job.trouble)
        return {"FINISHED"} if job.state == "done" else {"CANCELLED"}


class _OfJob:
    """An operator on one job: the one whose id is given, or else the newest that it can do something with."""

    job: StringProperty(name="Job", description="Empty: the newest one", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def suits(cls, job: Job) -> bool:
        """Whether there is something to do with the job."""
        raise NotImplementedError

    @classmethod
    def poll(cls, _context) -> bool:
        return any(cls.suits(job) for job in jobs.session.jobs)

    def chosen_jobs(self) -> list[Job]:
        """The job, in a list that is empty where it has gone meanwhile."""
        suited = [job for job in jobs.session.jobs if self.suits(job)]
        return [job for job in suited if job.id == self.job] if self.job else suited[-1:]

    def execute(self, _context) -> set[str]:
        for job in self.chosen_jobs():
            self.do(job)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_cancel(_OfJob, bpy.types.Operator):
    """End this edit"""

    bl_idname = "fatezero.cancel"
    bl_label = "Cancel Edit"

    @classmethod
    def suits(cls, job) -> bool:
        return job.under_way and not job.cancelling

    def do(self, job) -> None:
        jobs.session.cancel(job)


class FATEZERO_OT_pause(_OfJob, bpy.types.Operator):
    """Leave this edit until it is resumed; one that runs keeps what it has done"""

    bl_idname = "fatezero.pause"
    bl_label = "Pause Edit"

    @classmethod
    def suits(cls, job) -> bool:
        reachable = job.at_engine and jobs.session.has(job)
        return job.state in ("queued", "running") and reachable and not job.cancelling

    def do(self, job) -> None:
        jobs.session.change(job, "pause")


class FATEZERO_OT_resume(_OfJob, bpy.types.Operator):
    """Go on with this edit where it was paused"""

    bl_idname = "fatezero.resume"
    bl_label = "Resume Edit"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "paused" and jobs.session.has(job) and not job.cancelling

    def do(self, job) -> None:
        jobs.session.change(job, "resume")


class FATEZERO_OT_try_again(_OfJob, bpy.types.Operator):
    """Have the engine try this edit again that failed; it goes on from the last step that it has kept"""

    bl_idname = "fatezero.try_again"
    bl_label = "Try Again"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "failed" and job.at_engine and jobs.session.has(job)

    def do(self, job) -> None:
        jobs.session.change(job, "retry")


class FATEZERO_OT_fetch_again(_OfJob, bpy.types.Operator):
    """Write the result of this edit once more; the engine has kept it"""

    bl_idname = "fatezero.fetch_again"
    bl_label = "Fetch Again"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "unfetched" and jobs.session.has(job)

    def do(self, job) -> None:
        jobs.session.fetch_again(job)


class FATEZERO_OT_dismiss(_OfJob, bpy.types.Operator):
    """Show this edit no more; files that it has written stay"""

    bl_idname = "fatezero.dismiss"
    bl_label = "Dismiss"

    @classmethod
    def suits(cls, job) -> bool:
        return not job.under_way

    def invoke(self, context, event) -> set[str]:
        """Ask before a result is dropped that only the engine has."""
        if not any(job.state == "unfetched" for job in self.chosen_jobs()):
            return self.execute(context)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Dismiss"),
            message=iface_("The result is still at the engine, and will be dropped there."),
            confirm_text=iface_("Drop Result"),
        )

    def do(self, job) -> None:
        jobs.session.dismiss(job)


class FATEZERO_OT_start_engine(bpy.types.Operator):
    """Start the engine now; Edit Strip does so too, when it is needed"""

    bl_idname = "fatezero.start_engine"
    bl_label = "Start Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.engine == "off"

    def execute(self, _context) -> set[str]:
        try:
            jobs.session.start_engine()
        except Trouble as trouble:
            return _refuse(self, trouble)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_stop_engine(bpy.types.Operator):
    """End the engine, and free the memory that it holds; its jobs go on when it is started again"""

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
            message=message.format(download=download, disk=disk, folder=folders.venv_folder()),
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
        installer.start(Path(__file__).parent, folders.venv_folder())
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_test_connection(bpy.types.Operator):
    """Find out whether the engine on the other computer can be reached, and what is in the way if not"""

    bl_idname = "fatezero.test_connection"
    bl_label = "Test Connection"

    @classmethod
    def poll(cls, _context) -> bool:
        return isinstance(chosen.place(), Remote)

    def invoke(self, _context, _event) -> set[str]:
        """Begin; the preferences show the answer when it is there."""
        return self._begin()

    def execute(self, _context) -> set[str]:
        """Try, and return when it is known: for scripts."""
        if self._begin() == {"CANCELLED"}:
            return {"CANCELLED"}
        trial.current.wait()
        if trial.current.trouble:
            return _report(self, trial.current.trouble)
        return {"FINISHED"}

    def _begin(self) -> set[str]:
        place = chosen.place()
        try:
            chosen.check(place)
        except Trouble as trouble:
            return _report(self, trouble)
        trial.start(place)
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_copy_key(bpy.types.Operator):
    """Copy this computer's public key, for whoever runs the engine to add: `python -m engine keys add NAME KEY`"""

    bl_idname = "fatezero.copy_key"
    bl_label = "Copy Key"

    def execute(self, context) -> set[str]:
        try:
            context.window_manager.clipboard = chosen.own_key()
        except ProtocolError as error:
            return _report(self, as_is(error.sentence, error.remedy))
        return {"FINISHED"}


class FATEZERO_OT_select_result(_OfJob, bpy.types.Operator):
    """Select the strip that this edit made"""

    bl_idname = "fatezero.select_result"
    bl_label = "Select Result"
    bl_options = {"UNDO"}

    @classmethod
    def suits(cls, job) -> bool:
        return bool(job.result)

    def execute(self, context) -> set[str]:
        for job in self.chosen_jobs():
            scene = bpy.data.scenes.get(job.source.scene)
            result = scene and strips.named(scene, job.result)
            if result is None:
                gone = Trouble("The strip is no longer here; its files are in {folder}.", folder=job.folder)
                return _refuse(self, gone)
            for strip in compat.all_strips(scene.sequence_editor):
                strip.select = strip == result
            scene.sequence_editor.active_strip = result
        return {"FINISHED"}


CLASSES = (
    FATEZERO_OT_edit_strip,
    FATEZERO_OT_cancel,
    FATEZERO_OT_pause,
    FATEZERO_OT_resume,
    FATEZERO_OT_try_again,
    FATEZERO_OT_fetch_again,
    FATEZERO_OT_dismiss,
    FATEZERO_OT_start_engine,
    FATEZERO_OT_stop_engine,
    FATEZERO_OT_install_engine,
    FATEZERO_OT_test_connection,
    FATEZERO_OT_copy_key,
    FATEZERO_OT_select_result,
)
