"""The checkpoints of the engine on this computer: adding, fetching and removing them."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.props import StringProperty

from .. import checkpoints, chosen, folders, jobs
from ..engine_process import NOT_INSTALLED
from ..trouble import Trouble
from .base import report_trouble


def at_work() -> bool:
    """Whether the engine is busy with its checkpoints."""
    return checkpoints.current is not None and checkpoints.current.running


def begin(*arguments) -> checkpoints.Task:
    """Begin a command of the engine's; `Trouble` where there is no engine."""
    python = chosen.engine_python()
    if python is None:
        raise Trouble(*NOT_INSTALLED)
    task = checkpoints.start(python, folders.home_folder(), *arguments)
    jobs.watch()
    return task


class _Begins:
    """An operator that begins a command, and leaves the rest to its thread."""

    @classmethod
    def poll(cls, _context) -> bool:
        if at_work():
            cls.poll_message_set("The engine is still busy with another checkpoint")
            return False
        return True

    def execute(self, _context) -> set[str]:
        try:
            begin(*self.arguments())
        except Trouble as trouble:
            return report_trouble(self, trouble)
        return {"FINISHED"}


class FATEZERO_OT_list_checkpoints(_Begins, bpy.types.Operator):
    """Look which checkpoints the engine has, how large they are, and under which licence"""

    bl_idname = "fatezero.list_checkpoints"
    bl_label = "Refresh List"

    def arguments(self) -> tuple:
        return ("list",)


class FATEZERO_OT_add_checkpoint(_Begins, bpy.types.Operator):
    """Add a Stable Diffusion checkpoint: a .safetensors or .ckpt file, or the folder that is open (diffusers layout)"""

    bl_idname = "fatezero.add_checkpoint"
    bl_label = "Add Checkpoint"

    filepath: StringProperty(
        name="File", description="The file, or the folder that is open", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    filter_glob: StringProperty(
        name="Filter", description="Files that can be checkpoints", default="*.safetensors;*.ckpt", options={"HIDDEN"}
    )

    def invoke(self, context, _event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def arguments(self) -> tuple:
        return "add", Path(bpy.path.abspath(self.filepath))


class FATEZERO_OT_remove_checkpoint(_Begins, bpy.types.Operator):
    """Have the engine forget this checkpoint; its files stay where they are, but for one that was tuned on a strip"""

    bl_idname = "fatezero.remove_checkpoint"
    bl_label = "Remove Checkpoint"

    name: StringProperty(name="Name", description="Which one", options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context, event) -> set[str]:
        """Ask before files are removed that nobody else has."""
        if not any(each.name == self.name and each.made_here for each in checkpoints.known or ()):
            return self.execute(context)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Remove Checkpoint"),
            message=iface_("It was tuned on a strip, and its files will be removed."),
            confirm_text=iface_("Remove"),
        )

    def arguments(self) -> tuple:
        return "remove", self.name


class FATEZERO_OT_look_up_checkpoint(_Begins, bpy.types.Operator):
    """Ask the Hugging Face hub for this checkpoint's size and licence; nothing is fetched yet"""

    bl_idname = "fatezero.look_up_checkpoint"
    bl_label = "Look Up"

    @classmethod
    def poll(cls, context) -> bool:
        return super().poll(context) and _online(cls) and bool(chosen.preferences().hub_repository.strip())

    def arguments(self) -> tuple:
        preferences = chosen.preferences()
        revision = preferences.hub_revision.strip() or "main"
        return "fetch", preferences.hub_repository.strip(), "--revision", revision


class FATEZERO_OT_fetch_checkpoint(_Begins, bpy.types.Operator):
    """Fetch the checkpoint that was looked up, and add it; a download that was cut goes on where it stopped"""

    bl_idname = "fatezero.fetch_checkpoint"
    bl_label = "Fetch Checkpoint"

    @classmethod
    def poll(cls, context) -> bool:
        return super().poll(context) and _online(cls) and checkpoints.offered is not None

    def invoke(self, context, event) -> set[str]:
        found = checkpoints.offered
        message = iface_("This downloads {size:.1f} GB of {repository}, under the licence '{licence}'.")
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Fetch Checkpoint"),
            message=message.format(size=found.size / 1e9, repository=found.repository, licence=found.licence),
            confirm_text=iface_("Fetch"),
        )

    def arguments(self) -> tuple:
        return "fetch", checkpoints.offered.repository, "--revision", checkpoints.offered.commit, "--yes"


class FATEZERO_OT_cancel_checkpoint(bpy.types.Operator):
    """End this; what has been downloaded is kept for the next try"""

    bl_idname = "fatezero.cancel_checkpoint"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context) -> bool:
        return at_work() and not checkpoints.current.cancelled

    def execute(self, _context) -> set[str]:
        checkpoints.current.cancel()
        jobs.redraw()
        return {"FINISHED"}


def _online(cls) -> bool:
    if not bpy.app.online_access:
        cls.poll_message_set("Turn on Allow Online Access in the preferences (System, Network)")
    return bpy.app.online_access


CLASSES = (
    FATEZERO_OT_list_checkpoints,
    FATEZERO_OT_add_checkpoint,
    FATEZERO_OT_remove_checkpoint,
    FATEZERO_OT_look_up_checkpoint,
    FATEZERO_OT_fetch_checkpoint,
    FATEZERO_OT_cancel_checkpoint,
)
