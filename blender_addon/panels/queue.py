"""The jobs: how each stands, and what can be done about it."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from .. import jobs, thumbnails
from ..job import Job
from ..operators import order, queue
from ..session import Session
from .base import Sidebar
from .text import TEXT_SCALE, draw_text

STAGES = {
    "exporting": "Exporting",
    "sending": "Sending",
    "queued": "Waiting",
    "running": "Starting",
    "paused": "Paused",
    "fetching": "Fetching",
    "placing": "Placing",
    "read": "Reading frames",
    "load": "Loading the model",
    "encode": "Encoding",
    "invert": "Inverting",
    "edit": "Editing",
    "tune": "Tuning",
    "decode": "Decoding",
    "write": "Writing",
}
ICONS = {"done": "CHECKMARK", "failed": "ERROR", "unfetched": "ERROR", "unplaced": "FILE_BLEND", "paused": "PAUSE"}

SHOWN = 20
"""Jobs in the list at a time: those that are under way first."""


class FATEZERO_PT_queue(Sidebar, bpy.types.Panel):
    bl_label = "Edits"
    bl_order = 1

    @classmethod
    def poll(cls, _context) -> bool:
        return any(job.state != "cancelled" for job in jobs.session.jobs)

    def draw(self, context) -> None:
        session, layout = jobs.session, self.layout
        row = layout.row(align=True)
        row.operator("fatezero.pause_all", icon="PAUSE", text="Pause All")
        row.operator("fatezero.resume_all", icon="PLAY", text="")
        row.operator("fatezero.retry_all", icon="FILE_REFRESH", text="")
        row.operator("fatezero.clear_finished", icon="TRASH", text="")
        shown = [job for job in session.jobs if job.state != "cancelled"]
        for job in (chosen := choose(shown)):
            draw_job(layout.box().column(), job, session, context.region.width)
        if len(shown) > len(chosen):
            text = iface_("and {count} more").format(count=len(shown) - len(chosen))
            layout.label(text=text, translate=False)


def choose(found: list[Job]) -> list[Job]:
    """The jobs that are shown, in their order: where there are too many, the first under way and the last ended."""
    if len(found) <= SHOWN:
        return found
    under_way = [job for job in found if job.under_way]
    ended = [job for job in found if not job.under_way]
    kept = under_way[: SHOWN * 3 // 4]
    kept += ended[len(kept) - SHOWN :]
    return [job for job in found if job in kept]


def draw_job(column, job: Job, session: Session, width: float) -> None:
    """A job: its strip, how it stands or has ended, and what can be done about it."""
    row = column.row(align=True)
    picture = thumbnails.icon(job.id)
    if picture:
        row.label(text=job.source.name, translate=False, icon_value=picture)
    else:
        row.label(text=job.source.name, translate=False, icon="SEQUENCE")
    line = column.row()
    line.scale_y = TEXT_SCALE
    anew = "FILE_REFRESH" if job.replaces else "FORWARD"
    words = f"{job.settings.source} ({job.tuning.name})" if job.tuning else job.settings.target
    line.label(text=words, translate=False, icon=ICONS.get(job.state, anew))
    if order.FATEZERO_OT_jump_to_strip.suits(job):
        row.operator("fatezero.jump_to_strip", text="", icon="VIEWZOOM").job = job.id
    for direction, icon in (("UP", "TRIA_UP"), ("DOWN", "TRIA_DOWN")):
        if order.neighbour(job, direction):
            move = row.operator("fatezero.move_job", text="", icon=icon)
            move.job, move.direction = job.id, direction
    if job.under_way:
        draw_progress(column, row, job, session)
        if job.state == "queued" and job.waits:
            draw_text(column.column(), [job.waits], width, icon="INFO", translate=False)
    else:
        if job.result:
            row.operator("fatezero.select_result", text="", icon="RESTRICT_SELECT_OFF").job = job.id
        row.operator("fatezero.dismiss", text="", icon="X").job = job.id
        for operator, icon in (
            (queue.FATEZERO_OT_fetch_again, "IMPORT"),
            (queue.FATEZERO_OT_place_here, "IMPORT"),
            (queue.FATEZERO_OT_try_again, "FILE_REFRESH"),
        ):
            if operator.suits(job):
                column.operator(operator.bl_idname, icon=icon).job = job.id
        if job.notes:
            draw_text(column.column(), job.notes, width, icon="INFO")
    if job.trouble:
        draw_text(column.column(), job.trouble.told(rpt_), width, icon="ERROR", translate=False)


def draw_progress(column, buttons, job: Job, session: Session) -> None:
    """A bar with the stage, its step and the time left; and ways to hold the job up and to end it."""
    for operator, icon in ((queue.FATEZERO_OT_pause, "PAUSE"), (queue.FATEZERO_OT_resume, "PLAY")):
        if operator.suits(job):
            buttons.operator(operator.bl_idname, text="", icon=icon).job = job.id
    buttons.operator("fatezero.cancel", text="", icon="X").job = job.id
    column.progress(factor=bar_fraction(job), text=progress_text(job, session), translate=False)


def bar_fraction(job: Job) -> float:
    """How much of its bar is filled: the whole job's, or the part's that comes before or after the engine's."""
    return job.step / max(job.steps, 1) if job.state in ("exporting", "sending", "fetching") else job.fraction


def progress_text(job: Job, session: Session) -> str:
    """How a job stands that is under way, in a few words."""
    if job.cancelling:
        return iface_("Cancelling")
    if job.state not in ("exporting", "placing"):
        if not session.has(job):
            return iface_("At {engine}, which is not chosen now").format(engine=job.engine or iface_("this computer"))
        if session.engine == "lost":
            return iface_("Connection lost, trying again")
    if session.engine == "off" and job.state != "placing":
        return iface_("Goes on when the engine is started")
    stage = job.stage if job.state == "running" and job.stage in STAGES else job.state
    text = iface_(STAGES[stage])
    if job.state == "queued" and job.ahead:
        return text + ", " + iface_("{count} before it").format(count=job.ahead)
    if job.steps:
        text += f" {job.step}/{job.steps}"
    if job.upload.sent:
        text += ", " + iface_("{count} sent").format(count=job.upload.sent)
    if job.loss is not None and job.state == "running":
        text += ", " + iface_("error {value}").format(value=f"{job.loss:.3f}")
    if job.workers > 1:
        text += ", " + iface_("{count} workers").format(count=job.workers)
    if job.seconds_left is not None:
        text += ", " + iface_("{time} left").format(time=_time(job.seconds_left))
    return text


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


CLASSES = (FATEZERO_PT_queue,)
