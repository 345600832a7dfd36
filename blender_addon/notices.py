"""Saying that a job is over, wherever in Blender the user is then."""

from __future__ import annotations

from functools import partial

import bpy
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import BoolProperty, StringProperty

from . import jobs
from .job import AT_REST, Job

_states: dict[str, str] = {}
"""Jobs by their id, as they stood when this was last looked at."""


class FATEZERO_OT_notify(bpy.types.Operator):
    """Say something in the status bar"""

    bl_idname = "fatezero.notify"
    bl_label = "Notify"
    bl_options = {"INTERNAL"}

    text: StringProperty(name="Text", description="What is said", options={"SKIP_SAVE", "HIDDEN"})
    warn: BoolProperty(name="Warn", description="Whether something is wrong", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context, _event) -> set[str]:
        """Blender shows what an operator reports at an event, but not what a timer's does: wait for one of our own."""
        self._timer = context.window_manager.event_timer_add(0.1, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, _event) -> set[str]:
        context.window_manager.event_timer_remove(self._timer)
        self.execute(context)
        return {"FINISHED", "PASS_THROUGH"}

    def execute(self, _context) -> set[str]:
        self.report({"WARNING" if self.warn else "INFO"}, self.text)
        return {"FINISHED"}


def look() -> None:
    """Notice which jobs have ended, or come to rest, since this was last called."""
    global _states
    before, _states = _states, {job.id: job.state for job in jobs.session.jobs}
    for job in jobs.session.jobs:
        if before.get(job.id, job.state) != job.state and (words := sentence(job)):
            _say(words, job.state != "done")
    _redraw_status_bar()


def sentence(job: Job) -> str:
    """What is said of a job that is over; nothing of one that is not, or that the user has cancelled."""
    if job.state == "done" and not job.trouble:
        words = {
            "edit": rpt_("'{name}' is edited"),
            "masks": rpt_("The masks of '{name}' are there"),
            "tune": rpt_("The model '{model}', tuned on '{name}', is there"),
        }
        return words[job.task].format(name=job.source.name, model=job.model)
    if job.state in ("done", "failed", *AT_REST) and job.trouble:
        return rpt_("'{name}': {reason}").format(name=job.source.name, reason=job.trouble.told(rpt_)[0])
    return ""


def _say(words: str, warn: bool) -> None:
    if not bpy.app.background:
        jobs.when_alone(partial(_notify, words, warn))


def _notify(words: str, warn: bool) -> None:
    window = next(iter(bpy.context.window_manager.windows), None)
    if window:
        with bpy.context.temp_override(window=window):
            bpy.ops.fatezero.notify("INVOKE_DEFAULT", text=words, warn=warn)


def _redraw_status_bar() -> None:
    """Blender draws it anew when its text is set, and only then; what a tool says there is left alone."""
    for window in bpy.context.window_manager.windows:
        if not window.modal_operators:
            window.workspace.status_text_set(None)


def register() -> None:
    jobs.listeners.append(look)


def unregister() -> None:
    jobs.listeners.remove(look)
    _states.clear()


CLASSES = (FATEZERO_OT_notify,)
