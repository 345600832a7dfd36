"""What the add-on puts into Blender's own menus and status bar."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_

from . import jobs, reimport
from .panels.base import active_strip
from .panels.queue import bar_fraction, progress_text


def _in_strip_menu(menu, context) -> None:
    """Right-click on a strip, and the Strip menu."""
    strip = active_strip(context)
    if strip is None or strip.type == "SOUND":
        return
    layout = menu.layout
    layout.separator()
    layout.operator_context = "INVOKE_DEFAULT"
    layout.operator("fatezero.edit_strip", text="Edit by Words", icon="SHADERFX")
    if reimport.TAG in strip:
        layout.operator("fatezero.edit_again")
        layout.operator("fatezero.render_again")
        layout.operator("fatezero.compare")
    else:
        layout.operator("fatezero.test_reconstruction")
    layout.operator("fatezero.show_masks")
    layout.operator("fatezero.tune_on_strip", text="Tune on This Strip…")
    layout.operator("fatezero.batch")


def _in_status_bar(header, _context) -> None:
    """How far the jobs have come, while there are any: the first one's bar, and how many more there are."""
    under_way = [job for job in jobs.session.jobs if job.under_way and jobs.session.carries_on(job)]
    if not under_way:
        return
    job = next((job for job in under_way if job.state == "running"), under_way[0])
    row = header.layout.row(align=True)
    words = f"{job.source.name}: {progress_text(job, jobs.session)}"
    if len(under_way) > 1:
        words += " " + iface_("and {count} more").format(count=len(under_way) - 1)
    part = row.row()
    part.ui_units_x = 14
    part.progress(factor=bar_fraction(job), text=words, translate=False)
    row.operator("fatezero.cancel", text="", icon="X").job = job.id


_ADDITIONS = (
    ("SEQUENCER_MT_context_menu", _in_strip_menu),
    ("SEQUENCER_MT_strip", _in_strip_menu),
    ("STATUSBAR_HT_header", _in_status_bar),
)


def register() -> None:
    for menu, draw in _ADDITIONS:
        getattr(bpy.types, menu).append(draw)


def unregister() -> None:
    for menu, draw in _ADDITIONS:
        getattr(bpy.types, menu).remove(draw)
