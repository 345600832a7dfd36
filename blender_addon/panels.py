"""The panels in the sequencer's sidebar: they only draw."""

from __future__ import annotations

import blf
import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from . import chosen, compat, installer, jobs, operators, reimport
from .job import Job
from .places import Remote
from .trouble import Trouble

STAGES = {
    "exporting": "Exporting",
    "sending": "Sending",
    "queued": "Waiting",
    "running": "Starting",
    "paused": "Paused",
    "fetching": "Fetching",
    "placing": "Placing",
    "read": "Reading frames",
    "load": "Loading the model",
    "encode": "Encoding",
    "invert": "Inverting",
    "edit": "Editing",
    "decode": "Decoding",
    "write": "Writing",
}
ICONS = {"done": "CHECKMARK", "failed": "ERROR", "unfetched": "ERROR", "unplaced": "FILE_BLEND", "paused": "PAUSE"}
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
        for name in ("source", "target"):
            part = column.column(align=True)
            part.enabled = name == "source" or settings.preset != "reconstruct"
            part.label(text=FATEZERO_PT_edit.prompts[name])
            part.prop(settings, name, text="")
        split = column.column()
        split.use_property_split, split.use_property_decorate = True, False
        split.prop(settings, "preset")
        row = layout.row()
        row.scale_y = 1.5
        row.operator("fatezero.edit_strip", icon="SHADERFX")
        width = context.region.width
        if session.trouble and all(session.trouble is not job.trouble for job in session.jobs):
            draw_trouble(layout, session.trouble, width)
        for job in session.jobs:
            if job.state != "cancelled":
                draw_job(layout.box().column(), job, session, width)

    prompts = {"source": "What is in the strip", "target": "What shall be there instead"}


class FATEZERO_PT_settings(_Sidebar, bpy.types.Panel):
    bl_label = "Settings"
    bl_parent_id = "FATEZERO_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context) -> None:
        settings = compat.sequencer_scene(context).fatezero
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        column = layout.column()
        column.prop(settings, "model")
        if settings.model == "FOLDER":
            column.prop(settings, "model_folder")
        elif settings.model == "NAMED":
            column.prop(settings, "model_name")
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
        remote = isinstance(chosen.place(), Remote)
        if session.engine == "off":
            if remote:
                layout.label(text="Not connected", icon="UNLINKED")
                layout.operator("fatezero.start_engine", text="Connect", icon="LINKED")
            elif chosen.engine_python():
                layout.label(text="Not running", icon="PAUSE")
                layout.operator("fatezero.start_engine", icon="PLAY")
            else:
                layout.label(text="Not installed", icon="ERROR")
                layout.operator("fatezero.install_engine", icon="IMPORT")
        else:
            if session.engine == "ready":
                label = iface_("Ready, version {version}").format(version=session.welcome.engine)
                layout.label(text=label, icon="CHECKMARK", translate=False)
            else:
                trying = "Connection lost, trying again" if session.engine == "lost" else "Starting"
                layout.label(text=trying, icon="TIME")
            if remote:
                layout.operator("fatezero.stop_engine", text="Disconnect", icon="UNLINKED")
            else:
                layout.operator("fatezero.stop_engine", icon="QUIT")
        if installer.current and installer.current.trouble:
            draw_trouble(layout, installer.current.trouble, context.region.width)


CLASSES = (FATEZERO_PT_edit, FATEZERO_PT_settings, FATEZERO_PT_result, FATEZERO_PT_engine)


def draw_job(column, job: Job, session: jobs.Session, width: float) -> None:
    """A job: its strip, how it stands or has ended, and what can be done about it."""
    row = column.row(align=True)
    row.label(text=job.source.name, translate=False, icon=ICONS.get(job.state, "SEQUENCE"))
    if job.under_way:
        draw_progress(column, row, job, session)
    else:
        if job.result:
            row.operator("fatezero.select_result", text="", icon="RESTRICT_SELECT_OFF").job = job.id
        row.operator("fatezero.dismiss", text="", icon="X").job = job.id
        for operator, icon in (
            (operators.FATEZERO_OT_fetch_again, "IMPORT"),
            (operators.FATEZERO_OT_try_again, "FILE_REFRESH"),
        ):
            if operator.suits(job):
                column.operator(operator.bl_idname, icon=icon).job = job.id
        if job.notes:
            draw_text(column.column(), job.notes, width, icon="INFO")
    if job.trouble:
        draw_text(column.column(), job.trouble.told(rpt_), width, icon="ERROR", translate=False)


def draw_progress(column, buttons, job: Job, session: jobs.Session) -> None:
    """A bar with the stage, its step and the time left; and ways to hold the job up and to end it."""
    for operator, icon in ((operators.FATEZERO_OT_pause, "PAUSE"), (operators.FATEZERO_OT_resume, "PLAY")):
        if operator.suits(job):
            buttons.operator(operator.bl_idname, text="", icon=icon).job = job.id
    buttons.operator("fatezero.cancel", text="", icon="X").job = job.id
    fraction = job.fraction
    if job.state in ("exporting", "sending", "fetching"):
        fraction = job.step / max(job.steps, 1)
    column.progress(factor=fraction, text=progress_text(job, session), translate=False)


def progress_text(job: Job, session: jobs.Session) -> str:
    """How a job stands that is under way, in a few words."""
    if job.cancelling:
        return iface_("Cancelling")
    if job.state not in ("exporting", "placing"):
        if not session.has(job):
            return iface_("At {engine}, which is not chosen now").format(engine=job.engine or iface_("this computer"))
        if session.engine == "lost":
            return iface_("Connection lost, trying again")
        if session.engine == "off":
            return iface_("Goes on when the engine is started")
    stage = job.stage if job.state == "running" and job.stage in STAGES else job.state
    text = iface_(STAGES[stage])
    if job.state == "queued" and job.ahead:
        return text + ", " + iface_("{count} before it").format(count=job.ahead)
    if job.steps:
        text += f" {job.step}/{job.steps}"
    if job.seconds_left is not None:
        text += ", " + iface_("{time} left").format(time=_time(job.seconds_left))
    return text


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
