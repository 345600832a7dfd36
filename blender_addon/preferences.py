"""The add-on's preferences: which engine, and how it lives."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import EnumProperty, StringProperty

from . import checkpoints as known_checkpoints
from . import chosen, installer, jobs, keymaps, trial
from .panels import checkpoints, engine, installation
from .panels.text import draw_part, draw_text, draw_trouble
from .protocol.errors import ProtocolError
from .trouble import as_is

_DEVICES = [
    ("CPU", "Processor", "Works on every computer, slowly; the smaller download"),
    ("CUDA", "NVIDIA GPU", "Fast; takes an NVIDIA GPU and its driver"),
    ("APPLE", "Apple GPU", "Uses the GPU of Macs with Apple's processors"),
]
_HERE = [item for item in _DEVICES if item[0] in installer.DEVICES]


def _changed(_preferences, _context) -> None:
    trial.current = None  # what was found out about the engine before tells nothing now
    known_checkpoints.forget()
    jobs.session.use_place()


class FATEZERO_AP_preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    engine: EnumProperty(
        name="Engine",
        description="Where strips are edited",
        items=[
            ("LOCAL", "This Computer", "An engine on this computer, started when it is needed"),
            ("REMOTE", "Remote", "An engine that somebody runs on another computer"),
        ],
        update=_changed,
    )
    engine_python: StringProperty(
        name="Engine's Python",
        description="The Python that has the engine installed. Empty: the one that Install Engine has made",
        subtype="FILE_PATH",
        update=_changed,
    )
    when_closed: EnumProperty(
        name="When Blender Closes",
        description="What the engine on this computer does once no Blender is open any more. "
        "An edit that is still being exported or sent then has to be begun again; no other one is lost",
        items=[
            ("at-once", "End at Once", "End; jobs go on where they were when Blender is opened again"),
            ("after-queue", "Finish the Queue", "Finish all jobs, then end; results are placed when Blender is opened"),
            ("never", "Keep Running", "Stay, and keep the model in memory, until Stop Engine is pressed"),
        ],
        update=_changed,
    )
    install_device: EnumProperty(
        name="Install For",
        description="What the engine shall compute on",
        items=_HERE,
        default=installer.best_device(),
    )
    install_python: StringProperty(
        name="Python to Install With",
        description="A Python 3.11 or newer that makes the engine's environment. "
        "Empty: Blender's own or, where that cannot, one that is found",
        subtype="FILE_PATH",
    )
    remote_address: StringProperty(
        name="Address",
        description="Name and port of the other computer's engine, as gpu.studio:7860",
        update=_changed,
    )
    remote_key: StringProperty(
        name="Engine's Key",
        description="The 64 digits that `python -m engine keys` prints on the other computer",
        update=_changed,
    )

    hub_repository: StringProperty(
        name="From the Hub",
        description="A Stable Diffusion 1.x or 2.x checkpoint of the Hugging Face hub, as OWNER/NAME",
    )
    hub_revision: StringProperty(
        name="Revision",
        description="A commit, branch or tag; whichever it is, the very commit that was looked up is fetched. "
        "Empty: main",
    )

    def draw(self, context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.row().prop(self, "engine", expand=True)
        width = context.region.width
        if self.engine == "REMOTE":
            _draw_remote(layout, self, width)
            checkpoints.draw_names(layout, width)
        else:
            installation.draw(layout, self, width)
            engine.draw_running(layout, self)
            checkpoints.draw(layout, self, width)
        keymaps.draw(draw_part(layout, "Keyboard"))


def _draw_remote(layout, preferences, width: float) -> None:
    layout.prop(preferences, "remote_address", placeholder="gpu.studio:7860")
    layout.prop(preferences, "remote_key")
    split = layout.split(factor=0.4)
    name = split.row()
    name.alignment = "RIGHT"
    name.label(text="This Computer's Key")
    try:
        row = split.row(align=True)
        row.label(text=chosen.own_key(), translate=False)
        row.operator("fatezero.copy_key", text="", icon="COPYDOWN")
    except ProtocolError as error:
        draw_trouble(layout, as_is(error.sentence, error.remedy), width)
    row = layout.row()
    row.enabled = not (trial.current and trial.current.running)
    row.operator("fatezero.test_connection", icon="LINKED")
    if trial.current and trial.current.trouble:
        draw_trouble(layout, trial.current.trouble, width)
    elif trial.current and trial.current.welcome:
        welcome = trial.current.welcome
        text = rpt_("The engine answers: version {version}, on {device}, with {models}.").format(
            version=welcome.engine, device=welcome.device, models=", ".join(welcome.models)
        )
        draw_text(layout.box().column(), [text], width, icon="CHECKMARK", translate=False)


def register() -> None:
    """Have an entry for what is set here: `blender --addons` enables an add-on without one."""
    addons = bpy.context.preferences.addons
    if __package__ not in addons:
        addons.new().module = __package__
