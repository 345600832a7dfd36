"""The versions of the active result, and making it anew."""

from __future__ import annotations

import time

import bpy
from bpy.app.translations import pgettext_iface as iface_

from .. import reimport, versions
from .base import OfResult, Sidebar, active_strip

CHARACTERS = 40
"""Of a target prompt, as it is shown in a menu."""


class FATEZERO_MT_versions(OfResult, bpy.types.Menu):
    """Versions of this result, newest first"""

    bl_label = "Versions"

    def draw(self, context) -> None:
        strip = active_strip(context)
        shown = reimport.origin_of(strip).job_id
        found = versions.of(strip)
        for number, version in reversed(list(enumerate(found, start=1))):
            now = version.origin.job_id == shown
            row = self.layout.operator(
                "fatezero.show_version",
                text=version_text(number, version),
                icon="RADIOBUT_ON" if now else "RADIOBUT_OFF",
                translate=False,
            )
            row.version, row.strip = version.origin.job_id, strip.name


class FATEZERO_PT_versions(OfResult, Sidebar, bpy.types.Panel):
    bl_label = "Versions"
    bl_parent_id = "FATEZERO_PT_result"

    def draw(self, context) -> None:
        strip, layout = active_strip(context), self.layout
        found, shown = versions.of(strip), reimport.origin_of(strip).job_id
        number = next(number for number, each in enumerate(found, start=1) if each.origin.job_id == shown)
        text = iface_("Version {number} of {count}").format(number=number, count=len(found))
        if reimport.is_draft(reimport.origin_of(strip)):
            text += f" ({iface_('Draft')})"
        layout.menu("FATEZERO_MT_versions", text=text, icon="FILE_REFRESH", translate=False)
        column = layout.column(align=True)
        if reimport.is_draft(reimport.origin_of(strip)):
            column.operator("fatezero.render_again", text="Render in Full", icon="SHADING_RENDERED").full = True
        column.operator("fatezero.render_again", icon="RENDER_ANIMATION")
        row = column.row(align=True)
        row.operator("fatezero.render_again", text="With Panel's Settings").use_panel = True
        row.operator("fatezero.edit_again", icon="GREASEPENCIL")


def version_text(number: int, version: versions.Version) -> str:
    """A version in a line: its number, its target prompt, whether it is a draft, and when it was made."""
    target = version.origin.target
    if len(target) > CHARACTERS:
        target = target[: CHARACTERS - 1] + "…"
    made = time.strftime("  %x %H:%M", time.localtime(version.origin.made)) if version.origin.made else ""
    draft = f"  ({iface_('Draft')})" if reimport.is_draft(version.origin) else ""
    return f"{number}  {target}{draft}{made}"


CLASSES = (FATEZERO_MT_versions, FATEZERO_PT_versions)
