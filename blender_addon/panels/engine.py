"""The engine: whether it runs, and how to have it."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import chosen, folders, installer, jobs
from ..engine_process import LOG_NAME
from ..operators.install import installing
from ..places import Remote
from .base import Sidebar
from .installation import draw_outdated, draw_progress
from .text import draw_trouble


class FATEZERO_PT_engine(Sidebar, bpy.types.Panel):
    bl_label = "Engine"

    def draw(self, context) -> None:
        session, layout = jobs.session, self.layout
        if installing():
            draw_progress(layout)
            return
        remote = isinstance(chosen.place(), Remote)
        if session.engine == "off":
            if remote:
                layout.label(text="Not connected", icon="UNLINKED")
                layout.operator("fatezero.start_engine", text="Connect", icon="LINKED")
            elif chosen.engine_python():
                layout.label(text="Not running", icon="PAUSE")
                layout.operator("fatezero.start_engine", icon="PLAY")
            else:
                layout.label(text="Not installed", icon="ERROR")
                layout.operator("fatezero.install_engine", icon="IMPORT")
        else:
            if session.engine == "ready":
                label = iface_("Ready, version {version}").format(version=session.welcome.engine)
                layout.label(text=label, icon="CHECKMARK", translate=False)
            else:
                trying = "Connection lost, trying again" if session.engine == "lost" else "Starting"
                layout.label(text=trying, icon="TIME")
            if remote:
                layout.operator("fatezero.stop_engine", text="Disconnect", icon="UNLINKED")
            else:
                layout.operator("fatezero.stop_engine", icon="QUIT")
        if not remote:
            draw_outdated(layout.column(), context.region.width)
        if installer.current and installer.current.trouble:
            draw_trouble(layout, installer.current.trouble, context.region.width)


def draw_running(layout, preferences) -> None:
    """How the engine on this computer is run, in the preferences."""
    column = layout.column(heading="Running")
    column.prop(preferences, "engine_python", placeholder=str(chosen.engine_python() or ""))
    column.prop(preferences, "when_closed")
    row = layout.row()
    if jobs.session.engine == "off":
        row.operator("fatezero.start_engine", icon="PLAY")
    else:
        row.operator("fatezero.stop_engine", icon="QUIT")
    log = folders.home_folder() / LOG_NAME
    if log.is_file():
        row.operator("wm.path_open", text="Engine's Log", icon="TEXT").filepath = str(log)


CLASSES = (FATEZERO_PT_engine,)
