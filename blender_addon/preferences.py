"""The add-on's preferences: which Python runs the engine."""

from __future__ import annotations

import os
from pathlib import Path

import bpy
from bpy.props import StringProperty

from . import installer
from .engine_process import LOG_NAME, venv_python


class FATEZERO_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    engine_python: StringProperty(
        name="Engine's Python",
        description="The Python that has the engine installed. Empty: the one that Install Engine has made",
        subtype="FILE_PATH",
    )

    def draw(self, _context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "engine_python", placeholder=str(engine_python() or ""))
        row = layout.row()
        row.operator("fatezero.install_engine", icon="IMPORT")
        log = Path(bpy.utils.extension_path_user(__package__, path="home")) / LOG_NAME
        if log.is_file():
            row.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(log)
        if installer.current and installer.current.running:
            layout.progress(factor=installer.current.fraction, text=installer.current.line)


def engine_python() -> Path | None:
    """The engine's interpreter: the preference's, else the environment's, else our own; None if none is there."""
    preferences = bpy.context.preferences.addons[__package__].preferences
    named = bpy.path.abspath(preferences.engine_python) or os.environ.get("FATEZERO_ENGINE_PYTHON")
    if named:
        return Path(named)
    own = venv_python(venv_folder())
    return own if own.is_file() else None


def venv_folder() -> Path:
    """Where Install Engine puts the engine's environment."""
    return Path(bpy.utils.extension_path_user(__package__, path="engine"))
