"""Seeing where the model sees the words, and taking that into the timeline."""

from __future__ import annotations

import bpy
from bpy.props import IntProperty, StringProperty

from .. import compat, documents, extent, jobs, mask_sets, strips
from ..mask_strip import MaskStrip
from ..preview import handler, layers
from ..preview import settings as preview_settings
from ..trouble import Trouble, told
from .base import refuse, report_trouble, see_through

INTERVAL = 0.01
"""Seconds between two frames of a mask strip that is being written."""


class FATEZERO_OT_show_masks(bpy.types.Operator):
    """Find where in the selected strip the model sees each word of the source prompt; nothing is edited"""

    bl_idname = "fatezero.show_masks"
    bl_label = "Show Masks"

    def invoke(self, context, _event) -> set[str]:
        """Begin, and leave the rest to the timer."""
        return self._begin(context)[1]

    def execute(self, context) -> set[str]:
        """Return when the masks are there, or something is in their way: for scripts."""
        job, answer = self._begin(context)
        if job is None:
            return answer
        return see_through(self, job)

    def _begin(self, context):
        try:
            source = extent.chosen(context)
            settings = bpy.data.scenes[source.scene].fatezero
            wanted = settings.as_edit(settings.target.strip() or settings.source, own_mask="", keep_background=False)
            job = jobs.session.survey(source, wanted)
        except Trouble as trouble:
            return None, refuse(self, trouble)
        view = preview_settings.view()
        view.masks, view.threshold = True, settings.blend_threshold  # as an edit with these words would take them
        jobs.watch()
        return job, {"FINISHED"}


class FATEZERO_OT_toggle_masks(bpy.types.Operator):
    """Show or hide the masks over the preview"""

    bl_idname = "fatezero.toggle_masks"
    bl_label = "Toggle Masks"

    def execute(self, _context) -> set[str]:
        view = preview_settings.view()
        view.masks = not view.masks
        return {"FINISHED"}


class FATEZERO_OT_add_mask_strip(bpy.types.Operator):
    """Bring this word's masks in as a muted greyscale strip, soft or hard as they are shown: a mask for modifiers"""

    bl_idname = "fatezero.add_mask_strip"
    bl_label = "Add Mask Strip"
    bl_options = {"UNDO"}

    mask_set: StringProperty(name="Mask Set", description="The job that made it", options={"SKIP_SAVE", "HIDDEN"})
    number: IntProperty(name="Word", description="Which of its words", options={"SKIP_SAVE", "HIDDEN"})
    strip: StringProperty(name="Strip", description="Empty: the one shown", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context, _event) -> set[str]:
        """Write frame by frame; Blender stays usable, and Escape ends it."""
        try:
            self._making = self._make(context)
        except Trouble as trouble:
            return report_trouble(self, trouble)
        manager = context.window_manager
        manager.progress_begin(0, 100)
        self._timer = manager.event_timer_add(INTERVAL, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context, event) -> set[str]:
        if event.type == "ESC":
            self.cancel(context)
            return {"CANCELLED"}
        if event.type != "TIMER" or documents.occupied():
            return {"PASS_THROUGH"}
        try:
            self._making.write_next()
            context.window_manager.progress_update(round(100 * self._making.fraction))
            if not self._making.complete:
                return {"RUNNING_MODAL"}
            self._insert()
        except Exception as error:  # noqa: BLE001  whatever it is, no timer may stay, nor half a strip's files
            self.cancel(context)
            return report_trouble(self, told(error))
        self._end(context)
        return {"FINISHED"}

    def cancel(self, context) -> None:
        """Also called by Blender, when another file is opened."""
        self._end(context)
        self._making.discard()

    def execute(self, context) -> set[str]:
        """Write all at once: for scripts."""
        try:
            self._making = self._make(context)
        except Trouble as trouble:
            return report_trouble(self, trouble)
        try:
            while not self._making.complete:
                self._making.write_next()
            self._insert()
        except Trouble as trouble:
            self._making.discard()
            return report_trouble(self, trouble)
        return {"FINISHED"}

    def _make(self, context) -> MaskStrip:
        scene, view = compat.sequencer_scene(context), preview_settings.view()
        layers.sync(scene)
        found = next((each for each in mask_sets.all() if each.job_id == self.mask_set), None)
        strip = strips.named(scene, self.strip) if self.strip else layers.strip_of(scene)
        if found is None or strip is None or not 0 <= self.number < len(found.words):
            raise Trouble("These masks are no longer there.", "Select their strip, and use Show Masks again.")
        return MaskStrip(scene, strip, found, self.number, view.threshold if view.style == "HARD" else None)

    def _insert(self) -> None:
        name = self._making.insert()
        self.report({"INFO"}, bpy.app.translations.pgettext_rpt("Added the mask strip '{name}'").format(name=name))

    def _end(self, context) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        handler.redraw()


CLASSES = (FATEZERO_OT_show_masks, FATEZERO_OT_toggle_masks, FATEZERO_OT_add_mask_strip)
