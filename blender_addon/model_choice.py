"""Which model the panel's fields mean, by the name under which the engine finds it."""

from __future__ import annotations

from pathlib import Path

import bpy

from . import checkpoints, chosen, folders, jobs
from .places import Local, Remote
from .protocol import models
from .protocol.settings import BUILTIN_MODEL
from .trouble import Trouble


def names(_settings=None, _context=None, _typed: str = "") -> list[str]:
    """The names of the models that the engine has: a local one's are known without it."""
    if isinstance(chosen.place(), Local):
        return checkpoints.names(folders.home_folder())
    session = jobs.session
    return session.welcome.models if session.engine == "ready" else []


def name_of(settings) -> str:
    """The model's name, under which the engine finds it on its own machine: no path goes over the wire. `Trouble` where
    none is chosen, or the engine cannot have it."""
    if settings.model == "BUILTIN":
        return BUILTIN_MODEL
    if settings.model == "NAMED":
        return _named(settings.model_name.strip())
    if isinstance(chosen.place(), Remote):
        raise Trouble(
            "The engine on another computer does not see this one's folders.",
            "Choose one of its models by name, or the built-in model.",
        )
    if not settings.model_folder.strip():
        raise Trouble("No model folder is chosen.", "Choose a checkpoint's folder, or the built-in model.")
    folder = Path(bpy.path.abspath(settings.model_folder))
    try:
        return models.register(folders.home_folder(), folder)
    except OSError as error:
        raise Trouble(
            "The model's folder cannot be noted down for the engine ({reason}).", "Check the disk.",
            reason=error.strerror,
        ) from error  # fmt: skip


def _named(name: str) -> str:
    there = names()
    if not name:
        raise Trouble("No model is named.", "Choose one of the engine's models, or the built-in one.")
    if there and name not in there:
        raise Trouble(
            "The engine has no model '{name}'.", "Choose one of these: {models}.", name=name, models=", ".join(there)
        )
    return name
