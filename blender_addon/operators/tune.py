"""Tuning a model on a strip."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.props import BoolProperty, IntProperty, StringProperty

from .. import chosen, estimates, jobs, strips, tuned
from ..panels import figures
from ..protocol.settings import EditSettings
from ..protocol.tuning import Tuning, usual
from ..strips import Source
from ..trouble import Trouble
from .base import refuse, see_through

_DEFAULTS = Tuning(name="")


class FATEZERO_OT_tune_on_strip(bpy.types.Operator):
    """Make a model that knows this strip's motion, from the chosen one: changes of shape need it. Nothing is edited"""

    bl_idname = "fatezero.tune_on_strip"
    bl_label = "Tune on This Strip"

    name: StringProperty(
        name="New Model",
        description="What the new model shall be called: letters, digits, dots, hyphens and underscores",
        maxlen=80,
        options={"SKIP_SAVE"},
    )
    steps: IntProperty(
        name="Training Steps",
        description="More take longer and fit the model closer to the strip, and at last too close to change anything",
        min=1,
        soft_max=2000,
        max=100_000,
        default=_DEFAULTS.steps,
        options={"SKIP_SAVE"},
    )
    use: BoolProperty(
        name="Use It Then",
        description="Choose the new model, and the preset for shapes, in the panel as soon as it is there",
        default=True,
    )

    def invoke(self, context, _event) -> set[str]:
        """Ask for the name and the steps first; the timer does the rest."""
        try:
            self._planned = _plan(context)
        except Trouble as trouble:
            return refuse(self, trouble)
        self._waits = False
        if not self.properties.is_property_set("steps"):
            self.steps = usual(self._planned[1].model).steps
        if not self.name:
            self.name = tuned.proposed(self._planned[0].name)
        return context.window_manager.invoke_props_dialog(
            self, width=420, title=iface_("Tune on This Strip"), confirm_text=iface_("Start")
        )

    def draw(self, _context) -> None:
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        for name in ("name", "steps", "use"):
            layout.prop(self, name)
        source, settings = self._planned
        column = layout.box().column()
        column.label(text=settings.source, icon="SEQUENCE", translate=False)
        amount = estimates.amount_of(source, settings, Tuning(name=self.name, steps=self.steps))
        words = [iface_("{frames} frames").format(frames=source.pictures)]
        seconds = estimates.of([amount], chosen.name()).seconds
        if seconds is not None:
            words.append(iface_("about {time}").format(time=figures.duration(seconds)))
        column.label(text=", ".join(words), icon="TIME", translate=False)
        column.label(text="All frames are held in memory together: a few seconds of a clip are enough", icon="INFO")

    def execute(self, context) -> set[str]:
        """Begin; called by a script it returns when the model is there, or something is in its way."""
        try:
            source, settings = _plan(context)
            steps = self.steps if self.properties.is_property_set("steps") else 0
            job = tuned.begin(source, settings, self.name.strip(), steps, self.use)
        except Trouble as trouble:
            return refuse(self, trouble)
        jobs.watch()
        return see_through(self, job) if getattr(self, "_waits", True) else {"FINISHED"}


def _plan(context) -> tuple[Source, EditSettings]:
    """What would be tuned on, and with which model and prompt; `Trouble` where that is impossible."""
    source = strips.choose(context)
    scene = bpy.data.scenes[source.scene]
    return tuned.planned(scene, strips.named(scene, source.name))


CLASSES = (FATEZERO_OT_tune_on_strip,)
