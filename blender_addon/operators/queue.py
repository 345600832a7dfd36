"""What can be done with the jobs of the queue."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import compat, documents, jobs, strips
from ..trouble import Trouble
from .base import OfJob, refuse


class FATEZERO_OT_cancel(OfJob, bpy.types.Operator):
    """End this edit"""

    bl_idname = "fatezero.cancel"
    bl_label = "Cancel Edit"

    @classmethod
    def suits(cls, job) -> bool:
        return job.under_way and not job.cancelling

    def do(self, job) -> None:
        jobs.session.cancel(job)


class FATEZERO_OT_pause(OfJob, bpy.types.Operator):
    """Leave this edit until it is resumed; one that runs keeps what it has done"""

    bl_idname = "fatezero.pause"
    bl_label = "Pause Edit"

    @classmethod
    def suits(cls, job) -> bool:
        reachable = job.at_engine and jobs.session.has(job)
        return job.state in ("queued", "running") and reachable and not job.cancelling

    def do(self, job) -> None:
        jobs.session.change(job, "pause")


class FATEZERO_OT_resume(OfJob, bpy.types.Operator):
    """Go on with this edit where it was paused"""

    bl_idname = "fatezero.resume"
    bl_label = "Resume Edit"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "paused" and jobs.session.has(job) and not job.cancelling

    def do(self, job) -> None:
        jobs.session.change(job, "resume")


class FATEZERO_OT_try_again(OfJob, bpy.types.Operator):
    """Have the engine do again what failed of this edit, or is lost of its result; it goes on from what it has kept"""

    bl_idname = "fatezero.try_again"
    bl_label = "Try Again"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state in ("failed", "unfetched") and job.at_engine and jobs.session.has(job)

    def do(self, job) -> None:
        jobs.session.change(job, "retry")


class FATEZERO_OT_fetch_again(OfJob, bpy.types.Operator):
    """Write the result of this edit once more; the engine has kept it"""

    bl_idname = "fatezero.fetch_again"
    bl_label = "Fetch Again"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "unfetched" and jobs.session.has(job)

    def do(self, job) -> None:
        jobs.session.fetch_again(job)


class FATEZERO_OT_place_here(OfJob, bpy.types.Operator):
    """Put the result over its strip in the open file: one with another name, or with nothing in its way any more"""

    bl_idname = "fatezero.place_here"
    bl_label = "Place Here"

    @classmethod
    def suits(cls, job) -> bool:
        return job.state == "unplaced" and bool(bpy.data.filepath)

    def do(self, job) -> None:
        job.document, job.hindered = documents.current(), False


class FATEZERO_OT_dismiss(OfJob, bpy.types.Operator):
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


class FATEZERO_OT_select_result(OfJob, bpy.types.Operator):
    """Select the strip that this edit made"""

    bl_idname = "fatezero.select_result"
    bl_label = "Select Result"
    bl_options = {"UNDO"}

    @classmethod
    def suits(cls, job) -> bool:
        return bool(job.result)

    def execute(self, context) -> set[str]:
        for job in self.chosen_jobs():
            scene = strips.scene_of(job.source)
            result = scene and strips.named(scene, job.result)
            if result is None:
                gone = Trouble("The strip is no longer here; its files are in {folder}.", folder=job.folder)
                return refuse(self, gone)
            for strip in compat.all_strips(scene.sequence_editor):
                strip.select = strip == result
            scene.sequence_editor.active_strip = result
        return {"FINISHED"}


CLASSES = (
    FATEZERO_OT_cancel,
    FATEZERO_OT_pause,
    FATEZERO_OT_resume,
    FATEZERO_OT_try_again,
    FATEZERO_OT_fetch_again,
    FATEZERO_OT_place_here,
    FATEZERO_OT_dismiss,
    FATEZERO_OT_select_result,
)
