"""The list of jobs as a whole: their order, all of them at once, and the way from a job to its strip."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty

from .. import compat, jobs, strips
from ..job import Job
from ..trouble import Trouble
from .again import select_only
from .base import OfJob, refuse
from .queue import FATEZERO_OT_pause, FATEZERO_OT_resume, FATEZERO_OT_try_again


def neighbour(job: Job, direction: str) -> Job | None:
    """The job that this one can change places with: the next one `UP` or `DOWN` that waits as it does."""
    if not _waits(job):
        return None
    found = jobs.session.jobs
    index = found.index(job)
    others = reversed(found[:index]) if direction == "UP" else found[index + 1 :]
    return next((other for other in others if other.at_engine == job.at_engine and _waits(other)), None)


def _waits(job: Job) -> bool:
    begun = job.state == "exporting" and job.step > 0
    at_engine = job.state == "queued" and job.at_engine and jobs.session.has(job)
    return not job.cancelling and not begun and (job.state == "exporting" or at_engine)


def put_before(job: Job, other: Job) -> None:
    """Have a job run just before another one that waits as it does, here or at the engine."""
    session = jobs.session
    if job.at_engine:
        session.client.change(job.id, "move", other.id)
    order = sorted(each.begun for each in session.jobs)
    session.jobs.remove(job)
    session.jobs.insert(session.jobs.index(other), job)
    for each, begun in zip(session.jobs, order, strict=True):
        each.begun = begun  # what puts them in order when they are found again
    session.keep()


class FATEZERO_OT_move_job(OfJob, bpy.types.Operator):
    """Have this edit run before, or after, the one next to it that waits as well"""

    bl_idname = "fatezero.move_job"
    bl_label = "Move Edit"

    direction: EnumProperty(
        name="Direction",
        description="Where to",
        items=[("UP", "Up", "Run earlier"), ("DOWN", "Down", "Run later")],
        options={"SKIP_SAVE", "HIDDEN"},
    )

    @classmethod
    def suits(cls, job) -> bool:
        return any(neighbour(job, direction) for direction in ("UP", "DOWN"))

    def do(self, job) -> None:
        other = neighbour(job, self.direction)
        if other:
            put_before(*((job, other) if self.direction == "UP" else (other, job)))


class FATEZERO_OT_jump_to_strip(OfJob, bpy.types.Operator):
    """Select the strip that this edit made, or is made from, and show it in the sequencer"""

    bl_idname = "fatezero.jump_to_strip"
    bl_label = "Jump to Strip"
    bl_options = {"UNDO"}

    @classmethod
    def suits(cls, job) -> bool:
        return job.document.is_open()

    def execute(self, context) -> set[str]:
        for job in self.chosen_jobs():
            scene = strips.scene_of(job.source)
            found = scene and ((job.result and strips.named(scene, job.result)) or strips.find(job.source))
            if not found:
                return refuse(self, Trouble("'{name}' is no longer in this file.", name=job.source.name))
            select_only(scene, found)
            if scene == compat.sequencer_scene(context):
                show(scene, found)
        return {"FINISHED"}


def show(scene: bpy.types.Scene, strip) -> None:
    """Bring the strip, which is selected, into view, and the current frame onto it."""
    left, right = compat.left_handle(strip), compat.right_handle(strip)
    if not left <= scene.frame_current < right:
        scene.frame_current = left
    jobs.when_alone(_view_selected)


def _view_selected() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            region = next((region for region in area.regions if region.type == "WINDOW"), None)
            if area.type == "SEQUENCE_EDITOR" and region and area.spaces.active.view_type != "PREVIEW":
                with bpy.context.temp_override(window=window, area=area, region=region):
                    bpy.ops.sequencer.view_selected()


class OfAllJobs:
    """An operator on every job that another one suits."""

    one: type

    @classmethod
    def poll(cls, _context) -> bool:
        return any(cls.one.suits(job) for job in jobs.session.jobs)

    def execute(self, _context) -> set[str]:
        for job in [job for job in jobs.session.jobs if self.one.suits(job)]:
            self.one.do(self, job)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_pause_all(OfAllJobs, bpy.types.Operator):
    """Leave all edits until they are resumed; the one that runs keeps what it has done"""

    bl_idname = "fatezero.pause_all"
    bl_label = "Pause All"
    one = FATEZERO_OT_pause


class FATEZERO_OT_resume_all(OfAllJobs, bpy.types.Operator):
    """Go on with all edits that are paused"""

    bl_idname = "fatezero.resume_all"
    bl_label = "Resume All"
    one = FATEZERO_OT_resume


class FATEZERO_OT_retry_all(OfAllJobs, bpy.types.Operator):
    """Have the engine try all edits again that failed there"""

    bl_idname = "fatezero.retry_all"
    bl_label = "Retry All"
    one = FATEZERO_OT_try_again


class FATEZERO_OT_clear_finished(bpy.types.Operator):
    """Show edits that are done or cancelled no more; their strips and files stay"""

    bl_idname = "fatezero.clear_finished"
    bl_label = "Clear Finished"

    @classmethod
    def poll(cls, _context) -> bool:
        return any(_is_over(job) for job in jobs.session.jobs)

    def execute(self, _context) -> set[str]:
        for job in [job for job in jobs.session.jobs if _is_over(job)]:
            jobs.session.dismiss(job)
        jobs.redraw()
        return {"FINISHED"}


def _is_over(job: Job) -> bool:
    return job.state == "cancelled" or (job.state == "done" and job.trouble is None)


CLASSES = (
    FATEZERO_OT_move_job,
    FATEZERO_OT_jump_to_strip,
    FATEZERO_OT_pause_all,
    FATEZERO_OT_resume_all,
    FATEZERO_OT_retry_all,
    FATEZERO_OT_clear_finished,
)
