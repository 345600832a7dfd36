"""The engine: whether it runs, and how to have it."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import chosen, installer, jobs
from ..places import Remote
from .base import Sidebar
from .text import draw_text, draw_trouble


class FATEZERO_PT_engine(Sidebar, bpy.types.Panel):
    bl_label = "Engine"

    def draw(self, context) -> None:
        session, layout = jobs.session, self.layout
        if installer.current and installer.current.running:
            layout.progress(factor=installer.current.fraction, text=iface_("Installing"))
            draw_text(layout.column(), [installer.current.line], context.region.width, translate=False)
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
        if installer.current and installer.current.trouble:
            draw_trouble(layout, installer.current.trouble, context.region.width)


CLASSES = (FATEZERO_PT_engine,)
