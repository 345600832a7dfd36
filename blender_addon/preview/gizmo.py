"""The line between before and after, to be dragged with the mouse."""

from __future__ import annotations

import bpy

from .. import compat
from . import compare, geometry, paint, settings

REACH = 7.0
"""Pixels from the line within which the mouse takes it, on a usual screen."""


class FATEZERO_GT_divider(bpy.types.Gizmo):
    """The wipe's line; what is seen of it is drawn with the pictures."""

    bl_idname = "FATEZERO_GT_divider"

    def draw(self, _context) -> None:
        pass

    def test_select(self, context, location) -> int:
        shown = _shown(context)
        near = abs(location[0] - compare.divider(shown)) <= paint.scaled(REACH)
        return 0 if near and shown.y <= location[1] <= shown.top else -1

    def invoke(self, _context, _event) -> set[str]:
        self._was = settings.view().divider
        return {"RUNNING_MODAL"}

    def modal(self, context, event, _tweak) -> set[str]:
        shown = _shown(context)
        settings.view().divider = (event.mouse_region_x - shown.x) / shown.width
        return {"RUNNING_MODAL"}

    def exit(self, _context, cancel: bool) -> None:
        if cancel:
            settings.view().divider = self._was


class FATEZERO_GGT_divider(bpy.types.GizmoGroup):
    bl_idname = "FATEZERO_GGT_divider"
    bl_label = "Before and After"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "PREVIEW"
    bl_options = {"PERSISTENT", "SHOW_MODAL_ALL"}

    @classmethod
    def poll(cls, context) -> bool:
        if settings.view().compare != "WIPE" or not context.space_data.show_overlays:
            return False
        scene = compat.sequencer_scene(context)
        return scene is not None and scene.sequence_editor is not None and compare.has_something(scene)

    def setup(self, _context) -> None:
        line = self.gizmos.new(FATEZERO_GT_divider.bl_idname)
        line.use_draw_modal = True


def _shown(context) -> geometry.Rect:
    return geometry.picture(context.region, compat.sequencer_scene(context))


CLASSES = (FATEZERO_GT_divider, FATEZERO_GGT_divider)
