"""The engine: whether it runs, and how to have it."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import chosen, folders, installer, jobs
from ..engine_process import LOG_NAME
from ..operators.install import installing
from ..places import Remote
from ..session import Session
from .base import Sidebar
from .installation import draw_outdated, draw_progress
from .text import draw_part, draw_trouble


class FATEZERO_PT_engine(Sidebar, bpy.types.Panel):
    bl_label = "Engine"
    bl_order = 6

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
                draw_memory(layout, session)
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


def draw_memory(layout, session: Session) -> None:
    """What the engine computes on and the memory that it holds, with the way to free it."""
    row = layout.row(align=True)
    row.label(text=memory_text(session), icon="MEMORY", translate=False)
    row.operator("fatezero.free_memory", text="", icon="X")


def memory_text(session: Session) -> str:
    """The device, and the memory that is held."""
    device = session.welcome.device if session.welcome else "auto"
    words = [device.upper()] if device != "auto" else []  # nothing has been computed yet
    if session.holds and session.holds.memory:
        words.append(iface_("{size:.1f} GB of memory").format(size=session.holds.memory / 1e9))
    if session.holds and session.holds.device_memory:
        words.append(iface_("{size:.1f} GB on the GPU").format(size=session.holds.device_memory / 1e9))
    return ", ".join(words) or iface_("No memory is held")


def draw_running(layout, preferences) -> None:
    """How the engine on this computer is run, in the preferences."""
    column = draw_part(layout, "Running")
    column.prop(preferences, "engine_python", placeholder=str(chosen.engine_python() or ""))
    column.prop(preferences, "when_closed")
    if jobs.session.engine == "ready":
        draw_memory(column, jobs.session)
    row = column.row()
    if jobs.session.engine == "off":
        row.operator("fatezero.start_engine", icon="PLAY")
    else:
        row.operator("fatezero.stop_engine", icon="QUIT")
    log = folders.home_folder() / LOG_NAME
    if log.is_file():
        row.operator("wm.path_open", text="Engine's Log", icon="TEXT").filepath = str(log)


CLASSES = (FATEZERO_PT_engine,)
