"""The panels in the sequencer's sidebar: they only draw."""

from __future__ import annotations

import blf
import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from . import compat, installer, jobs, preferences, reimport
from .trouble import Trouble

STAGES = {
    "exporting": "Exporting",
    "sending": "Sending",
    "queued": "Waiting",
    "running": "Starting",
    "fetching": "Fetching",
    "read": "Reading frames",
    "load": "Loading the model",
    "encode": "Encoding",
    "invert": "Inverting",
    "edit": "Editing",
    "decode": "Decoding",
    "write": "Writing",
}
TEXT_SCALE = 0.8
"""Height of a line of a longer text, of a button's."""


class _Sidebar:
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "FateZero"


class FATEZERO_PT_edit(_Sidebar, bpy.types.Panel):
    bl_label = "Edit by Words"

    def draw(self, context) -> None:
        scene = compat.sequencer_scene(context)
        settings, session = scene.fatezero, jobs.session
        layout = self.layout
        column = layout.column()
        column.enabled = not session.busy
        for name in ("source", "target"):
            part = column.column(align=True)
            part.enabled = name == "source" or settings.preset != "reconstruct"
            part.label(text=FATEZERO_PT_edit.prompts[name])
            part.prop(settings, name, text="")
        split = column.column()
        split.use_property_split, split.use_property_decorate = True, False
        split.prop(settings, "preset")
        if session.busy:
            draw_progress(layout, session.job)
        else:
            row = layout.row()
            row.scale_y = 1.5
            row.operator("fatezero.edit_strip", icon="SHADERFX")
            draw_outcome(layout, session, context.region.width)

    prompts = {"source": "What is in the strip", "target": "What shall be there instead"}


class FATEZERO_PT_settings(_Sidebar, bpy.types.Panel):
    bl_label = "Settings"
    bl_parent_id = "FATEZERO_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        settings = compat.sequencer_scene(context).fatezero
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.enabled = not jobs.session.busy
        column = layout.column()
        column.prop(settings, "model")
        if settings.model == "FOLDER":
            column.prop(settings, "model_folder")
        column = layout.column(align=True)
        column.prop(settings, "steps")
        column.prop(settings, "guidance")
        column = layout.column(align=True)
        column.prop(settings, "cross_end", slider=True)
        column.prop(settings, "self_end", slider=True)
        row = layout.row()
        row.active = settings.preset != "reconstruct"
        row.prop(settings, "new_word_strength")
        column = layout.column(align=True)
        taken = settings.preset_words()
        column.prop(settings, "blend_source", placeholder=" ".join(taken[0]))
        column.prop(settings, "blend_target", placeholder=" ".join(taken[1]))
        column.prop(settings, "blend_threshold", slider=True)


class FATEZERO_PT_result(_Sidebar, bpy.types.Panel):
    bl_label = "Made by FateZero"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context) -> bool:
        strip = _active_strip(context)
        return strip is not None and reimport.TAG in strip

    def draw(self, context) -> None:
        origin = reimport.origin_of(_active_strip(context))
        column = self.layout.column()
        for label, value in (
            ("From", origin.strip),
            ("Source", origin.source),
            ("Target", origin.target),
            ("Model", origin.model),
            ("Engine", origin.engine),
        ):
            split = column.split(factor=0.25)
            name = split.column()
            name.scale_y = TEXT_SCALE
            name.label(text=label)
            draw_text(split.column(), [value], context.region.width * 0.75, translate=False)


class FATEZERO_PT_engine(_Sidebar, bpy.types.Panel):
    bl_label = "Engine"

    def draw(self, context) -> None:
        session, layout = jobs.session, self.layout
        if installer.current and installer.current.running:
            layout.progress(factor=installer.current.fraction, text=iface_("Installing"))
            draw_text(layout.column(), [installer.current.line], context.region.width, translate=False)
            return
        if session.engine == "ready":
            label = iface_("Ready, version {version}").format(version=session.welcome.engine)
            layout.label(text=label, icon="CHECKMARK", translate=False)
            layout.operator("fatezero.stop_engine", icon="QUIT")
        elif session.engine == "starting":
            layout.label(text="Starting", icon="TIME")
            layout.operator("fatezero.stop_engine", icon="QUIT")
        elif preferences.engine_python():
            layout.label(text="Not running", icon="PAUSE")
            layout.operator("fatezero.start_engine", icon="PLAY")
        else:
            layout.label(text="Not installed", icon="ERROR")
            layout.operator("fatezero.install_engine", icon="IMPORT")
        if installer.current and installer.current.trouble:
            draw_trouble(layout, installer.current.trouble, context.region.width)


CLASSES = (FATEZERO_PT_edit, FATEZERO_PT_settings, FATEZERO_PT_result, FATEZERO_PT_engine)


def draw_progress(layout, job: jobs.Job) -> None:
    """A bar with the stage, its step and the time left, and a way to end it."""
    stage = job.stage if job.state == "running" and job.stage in STAGES else job.state
    text = iface_("Cancelling") if job.cancelling else iface_(STAGES[stage])
    fraction = job.fraction
    if job.state in ("exporting", "sending", "fetching"):
        fraction = job.step / max(job.steps, 1)
    if job.steps:
        text += f" {job.step}/{job.steps}"
    if job.seconds_left is not None:
        text += ", " + iface_("{time} left").format(time=_time(job.seconds_left))
    row = layout.row(align=True)
    row.progress(factor=fraction, text=text, translate=False)
    row.operator("fatezero.cancel", text="", icon="X")


def draw_outcome(layout, session: jobs.Session, width: float) -> None:
    """How the last edit went."""
    job = session.job
    if job and job.state == "done":
        if job.result:
            layout.operator("fatezero.select_result", icon="RESTRICT_SELECT_OFF")
        if job.notes:
            draw_text(layout.box().column(), job.notes, width, icon="INFO")
    if session.trouble:
        draw_trouble(layout, session.trouble, width)


def draw_trouble(layout, trouble: Trouble, width: float) -> None:
    """What went wrong and the way out."""
    draw_text(layout.box().column(), trouble.told(rpt_), width, icon="ERROR", translate=False)


def draw_text(column, sentences: list[str], width: float, icon: str = "NONE", translate: bool = True) -> None:
    """Sentences as lines that fit `width` pixels."""
    scale = bpy.context.preferences.system.ui_scale
    column.scale_y = TEXT_SCALE
    room = width - (90 if icon != "NONE" else 50) * scale
    blf.size(0, 11 * scale)
    for sentence in sentences:
        for line in lines_of(iface_(sentence) if translate else sentence, room):
            column.label(text=line, icon=icon, translate=False)
            icon = "BLANK1" if icon != "NONE" else icon


def lines_of(sentence: str, room: float) -> list[str]:
    """Lines of at most `room` pixels in the current font: broken at spaces, and within words that are longer."""
    lines = [""]
    for word in sentence.split():
        joined = f"{lines[-1]} {word}".strip()
        if blf.dimensions(0, joined)[0] <= room:
            lines[-1] = joined
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and blf.dimensions(0, lines[-1] + letter)[0] > room:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}"


def _active_strip(context):
    editor = compat.sequencer_scene(context).sequence_editor
    return editor.active_strip if editor else None
