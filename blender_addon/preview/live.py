"""The pictures that a running job sends of its work, at the frame that is shown."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import compat, jobs, strips
from ..job import Job


@dataclass(frozen=True)
class Live:
    """One picture of a job's work."""

    key: tuple[str, int, int]
    """Job, step, and number of the picture: no two are alike."""
    data: bytes
    """A PNG file's."""
    label: str


def at(scene: bpy.types.Scene) -> Live | None:
    """The picture nearest to the scene's frame, of the newest job that works on a strip there."""
    for job in reversed(jobs.session.jobs):
        preview = job.preview
        frame = _clip_frame(job, scene) if preview and preview.pictures else None
        if frame is None:
            continue
        number = min(range(len(preview.frames)), key=lambda each: abs(preview.frames[each] - frame))
        label = iface_("Step {step} of {steps}").format(step=preview.step, steps=preview.steps)
        return Live((job.id, preview.step, number), preview.pictures[number], label)
    return None


def _clip_frame(job: Job, scene: bpy.types.Scene) -> int | None:
    """Which frame of the job's clip is shown; None where its strip is not at the scene's frame."""
    if job.source.scene != scene.name:
        return None
    strip = strips.find(job.source)
    if strip is None or not compat.left_handle(strip) <= scene.frame_current < compat.right_handle(strip):
        return None
    return scene.frame_current - job.source.first - round(compat.content_start(strip) - job.source.content_start)
