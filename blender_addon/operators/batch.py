"""Many strips at once, one strip in variations, and the list of their prompts."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import BoolProperty, EnumProperty, IntProperty

from .. import batches, compat, jobs, plans, strips
from ..panels import figures
from ..trouble import Trouble
from .base import refuse

TITLES = {"EDIT": "Edit Strips", "AGAIN": "Re-render Results", "VARIATIONS": "Edit in Variations"}
SHOWN = 8
"""Strips named in the dialog that are left out; the others are counted."""


class FATEZERO_OT_batch(bpy.types.Operator):
    """Edit many strips, or make many results anew: shows first which, and how long that takes"""

    bl_idname = "fatezero.batch"
    bl_label = "Batch"

    what: EnumProperty(
        name="Do",
        description="What is done with the strips",
        items=[
            ("EDIT", "Edit", "Edit strips as the panel says"),
            ("AGAIN", "Re-render", "Make results anew from their sources, each with its own prompts and settings"),
            ("VARIATIONS", "Variations", "Edit one strip with each of the target prompts in the list"),
        ],
        options={"SKIP_SAVE"},
    )
    scope: EnumProperty(
        name="Strips",
        description="Which strips it is done with",
        items=[
            ("SELECTED", "Selected", "The selected strips"),
            ("CHANNEL", "Channel", "All strips of a channel"),
            ("SCENE", "Scene", "All strips of the sequencer's scene"),
            ("ALL", "Project", "All strips of all scenes of this file"),
        ],
        options={"SKIP_SAVE"},
    )
    channel: IntProperty(name="Channel", description="The channel's number", min=1, default=1, options={"SKIP_SAVE"})
    stale_only: BoolProperty(
        name="Only What Has Changed",
        description="Leave alone what was made from the same source with the same prompts and settings",
        default=True,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context) -> bool:
        scene = compat.sequencer_scene(context)
        return scene is not None and scene.sequence_editor is not None

    def invoke(self, context, _event) -> set[str]:
        """Show the plan, and begin it when it is confirmed; the timer does the rest."""
        self._waits, self._planned = False, None
        active = compat.sequencer_scene(context).sequence_editor.active_strip
        if active and not self.properties.is_property_set("channel"):
            self.channel = active.channel
        return context.window_manager.invoke_props_dialog(
            self, width=420, title=iface_(TITLES[self.what]), confirm_text=iface_("Start")
        )

    def check(self, _context) -> bool:
        """Have the plan drawn again when what it goes by has changed."""
        return True

    def draw(self, context) -> None:
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        if self.what != "VARIATIONS":
            layout.prop(self, "scope")
            if self.scope == "CHANNEL":
                layout.prop(self, "channel")
        layout.prop(self, "stale_only")
        chosen = (self.what, self.scope, self.channel, self.stale_only)
        if self._planned is None or self._planned[0] != chosen:  # not anew for every move of the mouse
            self._planned = chosen, *self._plan_or_trouble(context)
        draw_plan(layout.box().column(), *self._planned[1:])

    def execute(self, context) -> set[str]:
        """Begin; called by a script it returns when all have ended or come to rest."""
        plan, trouble = self._plan_or_trouble(context)
        if trouble:
            return refuse(self, trouble)
        if not plan.todo:
            self.report({"INFO"}, rpt_("Nothing to do: {count} skipped").format(count=len(plan.skipped)))
            return {"CANCELLED"}
        batch = batches.begin(plan)
        jobs.watch()
        if getattr(self, "_waits", True):
            for job in batch.jobs:
                jobs.wait(job=job)
            for name, trouble in batch.troubles:
                self.report({"WARNING"}, f"{name}: {' '.join(trouble.told(rpt_))}")
        self.report({"INFO"}, batch.summary())
        jobs.redraw()
        return {"FINISHED"}

    def _plan_or_trouble(self, context) -> tuple[plans.Plan | None, Trouble | None]:
        try:
            return self.plan(compat.sequencer_scene(context)), None
        except Trouble as trouble:
            return None, trouble

    def plan(self, scene: bpy.types.Scene) -> plans.Plan:
        """What would be done now; `Trouble` where nothing can be said of any strip."""
        if self.what == "VARIATIONS":
            targets = [target.text.strip() for target in scene.fatezero_work.targets if target.text.strip()]
            if not targets:
                raise Trouble("The list of target prompts is empty.", "Add some under Batch, Variations.")
            strip = strips.selected(scene)
            if strip is None:
                raise Trouble("No strip is selected.", "Select the strip to edit.")
            return plans.edits([strip], self.stale_only, targets)
        found = plans.strips_of(scene, self.scope, self.channel)
        return plans.edits(found, self.stale_only) if self.what == "EDIT" else plans.renders(found, self.stale_only)


def draw_plan(column, plan: plans.Plan | None, trouble: Trouble | None) -> None:
    """How much there is to do, and what is left out and why."""
    if trouble:
        for line in trouble.told(rpt_):
            column.label(text=line, icon="ERROR", translate=False)
        return
    column.label(text=iface_("Edits: {count}").format(count=len(plan.todo)), icon="SEQUENCE", translate=False)
    if plan.todo:
        frames = plan.pictures
        column.label(text=figures.cost(frames, frames, plan.estimate()), icon="TIME", translate=False)
    for _, reason in plan.skipped[:SHOWN]:
        column.label(text=reason.told(rpt_)[0], icon="BLANK1", translate=False)
    if len(plan.skipped) > SHOWN:
        more = iface_("and {count} more that are skipped").format(count=len(plan.skipped) - SHOWN)
        column.label(text=more, icon="BLANK1", translate=False)


class FATEZERO_OT_add_target(bpy.types.Operator):
    """Add a target prompt to the list of variations, to begin with the panel's"""

    bl_idname = "fatezero.add_target"
    bl_label = "Add Variation"
    bl_options = {"UNDO"}

    def execute(self, context) -> set[str]:
        scene = compat.sequencer_scene(context)
        work = scene.fatezero_work
        work.targets.add().text = scene.fatezero.target
        work.target_index = len(work.targets) - 1
        return {"FINISHED"}


class FATEZERO_OT_remove_target(bpy.types.Operator):
    """Remove the chosen target prompt from the list of variations"""

    bl_idname = "fatezero.remove_target"
    bl_label = "Remove Variation"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context) -> bool:
        scene = compat.sequencer_scene(context)
        return scene is not None and 0 <= scene.fatezero_work.target_index < len(scene.fatezero_work.targets)

    def execute(self, context) -> set[str]:
        work = compat.sequencer_scene(context).fatezero_work
        work.targets.remove(work.target_index)
        work.target_index = max(0, min(work.target_index, len(work.targets) - 1))
        return {"FINISHED"}


CLASSES = (FATEZERO_OT_batch, FATEZERO_OT_add_target, FATEZERO_OT_remove_target)
