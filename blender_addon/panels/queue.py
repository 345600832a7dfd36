"""The jobs: how each stands, and what can be done about it."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from .. import jobs
from ..job import Job
from ..operators import queue
from .text import draw_text

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
    "decode": "Decoding",
    "write": "Writing",
}
ICONS = {"done": "CHECKMARK", "failed": "ERROR", "unfetched": "ERROR", "unplaced": "FILE_BLEND", "paused": "PAUSE"}


def draw_job(column, job: Job, session: jobs.Session, width: float) -> None:
    """A job: its strip, how it stands or has ended, and what can be done about it."""
    row = column.row(align=True)
    row.label(text=job.source.name, translate=False, icon=ICONS.get(job.state, "SEQUENCE"))
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
            (queue.FATEZERO_OT_try_again, "FILE_REFRESH"),
        ):
            if operator.suits(job):
                column.operator(operator.bl_idname, icon=icon).job = job.id
        if job.notes:
            draw_text(column.column(), job.notes, width, icon="INFO")
    if job.trouble:
        draw_text(column.column(), job.trouble.told(rpt_), width, icon="ERROR", translate=False)


def draw_progress(column, buttons, job: Job, session: jobs.Session) -> None:
    """A bar with the stage, its step and the time left; and ways to hold the job up and to end it."""
    for operator, icon in ((queue.FATEZERO_OT_pause, "PAUSE"), (queue.FATEZERO_OT_resume, "PLAY")):
        if operator.suits(job):
            buttons.operator(operator.bl_idname, text="", icon=icon).job = job.id
    buttons.operator("fatezero.cancel", text="", icon="X").job = job.id
    fraction = job.fraction
    if job.state in ("exporting", "sending", "fetching"):
        fraction = job.step / max(job.steps, 1)
    column.progress(factor=fraction, text=progress_text(job, session), translate=False)


def progress_text(job: Job, session: jobs.Session) -> str:
    """How a job stands that is under way, in a few words."""
    if job.cancelling:
        return iface_("Cancelling")
    if job.state not in ("exporting", "placing"):
        if not session.has(job):
            return iface_("At {engine}, which is not chosen now").format(engine=job.engine or iface_("this computer"))
        if session.engine == "lost":
            return iface_("Connection lost, trying again")
        if session.engine == "off":
            return iface_("Goes on when the engine is started")
    stage = job.stage if job.state == "running" and job.stage in STAGES else job.state
    text = iface_(STAGES[stage])
    if job.state == "queued" and job.ahead:
        return text + ", " + iface_("{count} before it").format(count=job.ahead)
    if job.steps:
        text += f" {job.step}/{job.steps}"
    if job.workers > 1:
        text += ", " + iface_("{count} workers").format(count=job.workers)
    if job.seconds_left is not None:
        text += ", " + iface_("{time} left").format(time=_time(job.seconds_left))
    return text


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"
