"""Before and after in the preview."""

from __future__ import annotations

import bpy

from ..preview import settings


class FATEZERO_OT_compare(bpy.types.Operator):
    """Turn the comparison of the edit with what was before it on or off"""

    bl_idname = "fatezero.compare"
    bl_label = "Toggle Before and After"

    def execute(self, _context) -> set[str]:
        view = settings.view()
        if view.compare == "OFF":
            view.compare = view.last_compare
        else:
            view.last_compare, view.compare = view.compare, "OFF"
        return {"FINISHED"}


CLASSES = (FATEZERO_OT_compare,)
