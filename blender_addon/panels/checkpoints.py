"""The engine's checkpoints, in the preferences."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from .. import checkpoints, chosen, jobs
from ..operators.checkpoints import at_work, begin
from .text import draw_part, draw_text, draw_trouble


def draw(layout, preferences, width: float) -> None:
    """Those of the engine on this computer, and how to have more."""
    layout = column = draw_part(layout, "Checkpoints")
    if chosen.engine_python() is None:
        column.label(text="Install the engine first", icon="INFO")
        return
    if checkpoints.known is None and checkpoints.current is None:
        begin("list")  # the first time they are looked at: it takes the engine a moment
    for checkpoint in checkpoints.known or ():
        _draw_one(column, checkpoint)
    row = layout.row()
    row.operator("fatezero.add_checkpoint", icon="FILE_FOLDER", text="Add File or Folder")
    row.operator("fatezero.list_checkpoints", icon="FILE_REFRESH", text="Refresh List")
    row = layout.row(align=True)
    row.prop(preferences, "hub_repository", placeholder="OWNER/NAME")
    row.operator("fatezero.look_up_checkpoint", text="", icon="VIEWZOOM")
    if preferences.hub_repository:
        layout.prop(preferences, "hub_revision", placeholder="main")
    if at_work():
        _draw_progress(layout)
    elif checkpoints.current and checkpoints.current.trouble:
        draw_trouble(layout, checkpoints.current.trouble, width)
    if checkpoints.offered and not at_work():
        _draw_offer(layout, checkpoints.offered, width)
    if not bpy.app.online_access:
        draw_text(layout.column(), ["Blender's online access is off: nothing can be fetched"], width, icon="INFO")


def draw_names(layout, width: float) -> None:
    """Those of a remote engine; whoever runs it adds and removes them."""
    session = jobs.session
    if session.engine == "ready" and session.welcome:
        column = draw_part(layout, "Checkpoints")
        draw_text(column.column(), [", ".join(session.welcome.models)], width, translate=False)


def _draw_one(column, checkpoint: checkpoints.Checkpoint) -> None:
    row = column.row(align=True)
    split = row.split(factor=0.5)
    split.label(text=checkpoint.name, translate=False)
    part = split.split(factor=0.35)
    part.label(text=_size(checkpoint.size), translate=False)
    licence = checkpoint.licence or iface_("licence not said")
    part.label(text=licence, translate=False)
    last = row.row(align=True)
    last.enabled = checkpoint.removable
    last.operator("fatezero.remove_checkpoint", text="", icon="X").name = checkpoint.name


def _draw_progress(layout) -> None:
    task = checkpoints.current
    row = layout.row(align=True)
    if task.total:
        words = iface_("Fetching {done} of {total}").format(done=_size(task.done), total=_size(task.total))
        row.progress(factor=task.fraction, text=words, translate=False)
    else:
        words = {
            "list": "Looking at the checkpoints",
            "add": "Trying the checkpoint",
            "remove": "Removing the checkpoint",
            "fetch": "Asking the hub",
        }
        row.label(text=words[task.what], icon="TIME")
    row.operator("fatezero.cancel_checkpoint", text="", icon="X")


def _draw_offer(layout, offer: checkpoints.Offer, width: float) -> None:
    words = rpt_("{repository}, commit {commit}: {files} files, {size}, licence: {licence}").format(
        repository=offer.repository,
        commit=offer.commit[:10],
        files=offer.files,
        size=_size(offer.size),
        licence=offer.licence,
    )
    box = layout.box().column()
    draw_text(box.column(), [words], width, icon="IMPORT", translate=False)
    box.operator("fatezero.fetch_checkpoint", icon="IMPORT")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count > 1e8 else f"{count / 1e6:.0f} MB"
