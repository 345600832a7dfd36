"""The one session of this Blender, and the timer that carries it on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import bpy
from bpy.app.handlers import persistent

from . import checkpoints, installer, trial
from .job import Job
from .session import Session

log = logging.getLogger(__name__)

BUSY, IDLE = 0.05, 0.5
"""Seconds between ticks while there is a job and while there is only an engine to watch."""

session = Session()

_was_at_work = False

listeners: list[Callable[[], None]] = []
"""Called by the timer when something about the jobs or the engine has changed."""

_waiting: list[Callable[[], None]] = []
"""What is to be done as soon as no thread of ours runs."""


def tick() -> float | None:
    """The add-on's one timer: seconds until it wants to run again, None when there is nothing to watch."""
    if session.tick():
        redraw()
        for listener in listeners:
            listener()
    if _background_work():
        return BUSY
    if _waiting and session.alone(_do_waiting):
        redraw()
    if _waiting or session.busy or session.engine in ("starting", "lost"):
        return BUSY
    return IDLE if session.engine != "off" else None


def _background_work() -> bool:
    """Whether a thread beside the jobs is at work; what it shows is drawn anew while it is, and once after that."""
    global _was_at_work
    at_work = any(kind.current and kind.current.running for kind in (installer, trial, checkpoints))
    if at_work or _was_at_work:
        redraw()
    _was_at_work = at_work
    return at_work


def when_alone(do: Callable[[], None]) -> None:
    """Have the timer do what no thread of ours may run beside (see `standing`), as soon as none does."""
    _waiting.append(do)
    watch()


def _do_waiting() -> None:
    while _waiting:
        try:
            _waiting.pop(0)()
        except RuntimeError as error:  # an operator that finds no place for it by now; Blender ends a timer that raises
            log.debug("%s", error)


def watch() -> None:
    """Have the timer run from now on."""
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, persistent=True)


def wait(seconds: float = float("inf"), job: Job | None = None) -> None:
    """Do the timer's work by hand until the job, or all of them, have ended or come to rest: for scripts, and for
    Blender without a window."""
    deadline = time.monotonic() + seconds
    while (session.carries_on(job) if job else session.busy) and time.monotonic() < deadline:
        if not session.tick():
            time.sleep(0.02)


def redraw() -> None:
    """Have the sequencer's panels, and the preferences, drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("SEQUENCE_EDITOR", "PREFERENCES"):
                area.tag_redraw()


@persistent
def _loaded(*_) -> None:
    session.opened()
    watch()


@persistent
def _saved(path: str = "", *_) -> None:
    if path and path == bpy.data.filepath:  # else it was a copy, or the startup file, which has no path here
        session.saved()


def register() -> None:
    bpy.app.handlers.load_post.append(_loaded)
    bpy.app.handlers.save_post.append(_saved)
    session.look()
    watch()


def unregister() -> None:
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    _waiting.clear()
    bpy.app.handlers.save_post.remove(_saved)
    bpy.app.handlers.load_post.remove(_loaded)
