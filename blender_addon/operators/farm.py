"""Sending strips to a render farm, and taking what it has rendered."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_rpt as rpt_

from .. import compat, documents, export, extent, jobs, strips
from ..farm import Sending, place_all
from ..trouble import Trouble, told
from .base import refuse

TICK = 0.01
"""Seconds between two frames, in which Blender draws and hears the user."""


def begin(context: bpy.types.Context) -> Sending:
    """All selected strips, with the scene's prompts and settings; `Trouble` where one of them cannot be edited."""
    document, scene = documents.current(), compat.sequencer_scene(context)
    chosen = (
        [strip for strip in compat.all_strips(scene.sequence_editor) if strip.select] if scene.sequence_editor else []
    )
    if not chosen:
        raise Trouble("No strip is selected.", "Select the strips to edit.")
    settings = scene.fatezero.as_edit()
    if settings.own_mask:
        raise Trouble("A farm's job files hold no masks of your own.", "Turn the mask off, or edit the strips here.")
    sources = [extent.chosen(context, scene.name, strip.name) for strip in sorted(chosen, key=compat.left_handle)]
    for source in sources:
        strips.check_size(source)
    return Sending(document, sources, settings)


class FATEZERO_OT_send_to_farm(bpy.types.Operator):
    """Write the selected strips as job files for a render farm, beside this file; the farm edits them without Blender"""

    bl_idname = "fatezero.send_to_farm"
    bl_label = "Send to Farm"

    _sending: Sending | None = None
    _timer = None

    @classmethod
    def poll(cls, context) -> bool:
        return compat.sequencer_scene(context) is not None

    def invoke(self, context, _event) -> set[str]:
        """Export a frame at a time, and leave Blender usable between; Escape gives up."""
        try:
            self._sending = begin(context)
        except Trouble as trouble:
            return refuse(self, trouble)
        manager = context.window_manager
        manager.progress_begin(0.0, 1.0)
        self._timer = manager.event_timer_add(TICK, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event) -> set[str]:
        """The next frame, or the end."""
        if event.type == "ESC":
            self.cancel(context)
            return {"CANCELLED"}
        if event.type != "TIMER" or documents.occupied():
            return {"PASS_THROUGH"}
        try:
            self._sending.step()
        except Exception as error:  # noqa: BLE001  whatever it is, no timer may stay, nor half a shot
            self.cancel(context)
            return refuse(self, told(error))
        context.window_manager.progress_update(self._sending.fraction)
        if not self._sending.complete:
            return {"RUNNING_MODAL"}
        self._leave(context)
        return self._told()

    def cancel(self, context) -> None:
        """Give up; also called by Blender, when another file is opened."""
        self._sending.discard()
        self._leave(context)

    def execute(self, context) -> set[str]:
        """Write all, and return when they are there: for scripts."""
        sending = None
        try:
            self._sending = sending = begin(context)
            while not sending.complete:
                sending.step()
        except Exception as error:  # noqa: BLE001  whatever it is, half a shot may not stay
            if sending:
                sending.discard()
            return refuse(self, told(error))
        return self._told()

    def _told(self) -> set[str]:
        folder = self._sending.jobs[0].parent.parent
        self.report(
            {"INFO"}, rpt_("{count} job files are in {folder}").format(count=len(self._sending.jobs), folder=folder)
        )
        return {"FINISHED"}

    def _leave(self, context) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        export.clear()


class FATEZERO_OT_place_farm_results(bpy.types.Operator):
    """Put what a farm has rendered of this file's strips over them; results that are here already are left alone"""

    bl_idname = "fatezero.place_farm_results"
    bl_label = "Place Farm Results"

    @classmethod
    def poll(cls, _context) -> bool:
        return bool(bpy.data.filepath)

    def execute(self, _context) -> set[str]:
        """All that are finished, of all scenes."""
        placed = place_all(documents.current())
        jobs.redraw()
        for name, trouble in placed.troubles:
            self.report({"WARNING"}, f"{name}: {' '.join(trouble.told(rpt_))}")
        words = rpt_("Placed: {placed}. Not rendered yet: {waiting}")
        self.report({"INFO"}, words.format(placed=len(placed.strips), waiting=placed.waiting))
        return {"FINISHED"} if placed.strips else {"CANCELLED"}


CLASSES = (FATEZERO_OT_send_to_farm, FATEZERO_OT_place_farm_results)
