"""Which engine the preferences name."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import bpy

from . import folders
from .engine_process import venv_python
from .places import Local, Place, Remote
from .protocol import keys
from .trouble import Trouble

instead: Place | None = None
"""The engine to use whatever the preferences say, as the command line was told."""


def place() -> Place:
    """The engine that edits from now on."""
    if instead is not None:
        return instead
    chosen = preferences()
    if chosen.engine == "REMOTE":
        return Remote(chosen.remote_address.strip(), chosen.remote_key.strip(), folders.key_file())
    return Local(folders.home_folder(), engine_python(), chosen.when_closed)


def name() -> str:
    """The name of `place()`, cheap enough to be asked for each job that is drawn: nothing is looked up on the disk."""
    if instead is not None:
        return instead.name
    chosen = preferences()
    return chosen.remote_address.strip() if chosen.engine == "REMOTE" else Local.name


def engine_python() -> Path | None:
    """The local engine's interpreter: the preference's, else the environment's, else our own; None if there is none."""
    named = bpy.path.abspath(preferences().engine_python) or os.environ.get("FATEZERO_ENGINE_PYTHON")
    if named:
        return Path(named)
    own = venv_python(folders.venv_folder())
    return own if own.is_file() else None


def check(engine: Place) -> None:
    """Raise `Trouble` where the engine must not, or cannot, be reached."""
    if isinstance(engine, Local):
        return
    if not engine.address:
        raise Trouble(
            "No engine's address is named.", "Fill in the other computer's address and key in the add-on's preferences."
        )
    if not engine.on_this_computer and not bpy.app.online_access:
        raise Trouble(
            "Blender's online access is off, and the engine is on another computer.",
            "Turn on Allow Online Access in the preferences (System, Network).",
        )


@functools.cache
def own_key() -> str:
    """The key that remote engines know this client by, as people copy it; made when it is first asked for.

    `ProtocolError` where that is impossible.
    """
    return keys.shown(keys.load_or_make(folders.key_file()).public)


def preferences() -> bpy.types.AddonPreferences:
    """The add-on's."""
    return bpy.context.preferences.addons[__package__].preferences
