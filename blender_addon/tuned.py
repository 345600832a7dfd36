"""Models that are tuned on a strip: what they may be called, and what becomes of one once it is there."""

from __future__ import annotations

import re

import bpy

from . import checkpoints, chosen, extent, folders, jobs, strips
from .job import Job
from .places import Local
from .protocol import models
from .protocol.errors import ProtocolError
from .protocol.settings import BUILTIN_MODEL, EditSettings
from .protocol.tuning import Tuning, usual
from .strips import Source
from .trouble import as_is

_LONGEST = 60
"""Characters of a strip's name that go into a model's."""


def taken() -> list[str]:
    """The names that models have: those of the engine, as far as they are known here, and those that are being made."""
    if isinstance(chosen.place(), Local):
        known = checkpoints.names(folders.home_folder())
    else:
        known = jobs.session.welcome.models if jobs.session.welcome else []
    return [*known, *(job.tuning.name for job in jobs.session.jobs if job.tuning and job.under_way)]


def proposed(strip: str) -> str:
    """A name for a model that is tuned on the strip of that name; no other model has it."""
    base = re.sub(r"[^\w.-]+", "-", strip).strip("-.")[:_LONGEST] or "strip"
    name, number, others = f"{base}-tuned", 2, taken()
    while name in others:
        name, number = f"{base}-tuned-{number}", number + 1
    return name


def check_name(name: str) -> None:
    """`Trouble` where no model can get that name."""
    try:
        models.check_name(name, taken())
    except ProtocolError as error:
        raise as_is(error.sentence, error.remedy) from error


def planned(scene: bpy.types.Scene, strip) -> tuple[Source, EditSettings]:
    """What of the strip would be tuned on, and with which model and prompt; `Trouble` where that is impossible."""
    strips.check(scene, strip)
    return extent.part(strips.describe(scene, strip), strip, scene), scene.fatezero.as_reconstruction()


def begin(source: Source, settings: EditSettings, name: str, steps: int, use: bool) -> Job:
    """Begin to tune the settings' model on the strip, under that name or, where it is empty, a proposed one; `steps`: 0 for
    what is usual.

    The timer carries it on. `Trouble` where it cannot begin.
    """
    name, its = name or proposed(source.name), usual(settings.model)
    check_name(name)
    return jobs.session.tune(source, settings, Tuning(name=name, steps=steps or its.steps, rate=its.rate), use)


def base_of(kind: str, folder: str, name: str) -> str:
    """The model that the chosen one was tuned from, as `models.base_of` says; `kind`: the panel's word for where it is.

    Of a remote engine's models it is known while it is connected.
    """
    if kind == "FOLDER" and folder.strip():
        return models.base_of(models.Model(bpy.path.abspath(folder)))
    if kind != "NAMED":
        return ""
    if isinstance(chosen.place(), Local):
        home = folders.home_folder()
        return models.base_of(models.resolve(home, name)) if name in models.known(home) else ""
    welcome = jobs.session.welcome
    return BUILTIN_MODEL if welcome and name in welcome.from_builtin else ""


def adopt(job: Job) -> None:
    """Have the new model offered and, where that was asked for, chosen in its strip's scene for edits of shapes."""
    if job.task != "tune" or job.state != "done" or not job.model:
        return
    jobs.session.knows(job.model, job.settings.model)
    if not (checkpoints.current and checkpoints.current.running):
        checkpoints.forget()  # the list is looked at again when it is next shown
    scene = strips.scene_of(job.source)
    if job.take_model and job.document.is_open() and scene:
        settings = scene.fatezero
        settings.model, settings.model_name, settings.preset = "NAMED", job.model, "shape"
