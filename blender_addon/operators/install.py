"""Having the engine on this computer: installing, updating and removing it."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.app.translations import pgettext_iface as iface_
from bpy.app.translations import pgettext_rpt as rpt_

from .. import chosen, folders, installed, installer, jobs
from ..places import Local
from ..trouble import Trouble
from .base import refuse

EXTENSION = Path(__file__).parents[1]


def installing() -> bool:
    """Whether the engine is being installed."""
    return installer.current is not None and installer.current.running


class _Installs:
    """An operator that begins an installation and leaves the rest to its thread."""

    @classmethod
    def poll(cls, _context) -> bool:
        if installing():
            cls.poll_message_set("The engine is being installed")
            return False
        return True

    def execute(self, _context) -> set[str]:
        outdated = installed.outdated(EXTENSION, folders.venv_folder())
        if outdated != "engine" and not bpy.app.online_access:
            trouble = Trouble(
                "Blender's online access is off, and the engine has to be downloaded.",
                "Turn on Allow Online Access in the preferences (System, Network).",
            )
            return refuse(self, trouble)
        jobs.session.stop_engine()
        jobs.session.trouble = None
        preferences = chosen.preferences()
        named = bpy.path.abspath(preferences.install_python.strip())
        target, device = folders.venv_folder(), preferences.install_device
        if outdated == "engine" and (note := installed.read(target)):
            device = note.parts.device  # its packages stay as they are
        installer.start(EXTENSION, target, device, Path(named) if named else None)
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_install_engine(_Installs, bpy.types.Operator):
    """Download the engine and install it in the add-on's own folder; what an earlier try has downloaded is used"""

    bl_idname = "fatezero.install_engine"
    bl_label = "Install Engine"

    def invoke(self, context, event) -> set[str]:
        if not bpy.app.online_access:
            return self.execute(context)
        download, disk = installer.SIZES[chosen.preferences().install_device]
        message = iface_("This downloads about {download:g} GB and takes about {disk:g} GB on disk in {folder}.")
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Install Engine"),
            message=message.format(download=download, disk=disk, folder=folders.venv_folder()),
            confirm_text=iface_("Install"),
        )


class FATEZERO_OT_update_engine(_Installs, bpy.types.Operator):
    """Bring the installed engine to the version that this add-on carries; packages that did not change stay"""

    bl_idname = "fatezero.update_engine"
    bl_label = "Update Engine"


class FATEZERO_OT_cancel_install(bpy.types.Operator):
    """End the installation; what it has downloaded is kept for the next try"""

    bl_idname = "fatezero.cancel_install"
    bl_label = "Cancel Installation"

    @classmethod
    def poll(cls, _context) -> bool:
        return installing() and not installer.current.cancelled

    def execute(self, _context) -> set[str]:
        installer.current.cancel()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_remove_engine(bpy.types.Operator):
    """Remove the engine that was installed in the add-on's own folder; jobs, results and checkpoints stay"""

    bl_idname = "fatezero.remove_engine"
    bl_label = "Remove Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        if installing() or not any(folder.is_dir() for folder in _removable()):
            return False
        if jobs.session.engine != "off" and isinstance(chosen.place(), Local):
            cls.poll_message_set("Stop the engine first")
            return False
        return True

    def invoke(self, context, event) -> set[str]:
        message = iface_("This frees {size:.1f} GB. Jobs, results and checkpoints stay.")
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=iface_("Remove Engine"),
            message=message.format(size=_removable_gigabytes()),
            confirm_text=iface_("Remove"),
        )

    def execute(self, _context) -> set[str]:
        size = _removable_gigabytes()
        try:
            for folder in _removable():
                if folder.is_dir():
                    installed.remove(folder)
        except OSError as error:
            return refuse(self, Trouble(
                "The engine cannot be removed: it is in use ({reason}).",
                "Stop it, in every Blender that uses it, and try again.", reason=error.strerror,
            ))  # fmt: skip
        installer.current = None
        jobs.session.use_place()
        jobs.redraw()
        self.report({"INFO"}, rpt_("The engine is removed; {size:.1f} GB are free again").format(size=size))
        return {"FINISHED"}


def _removable() -> tuple[Path, Path]:
    return folders.venv_folder(), installer.downloads_of(folders.venv_folder())


def _removable_gigabytes() -> float:
    return sum(installed.size(folder) for folder in _removable()) / 1e9


CLASSES = (
    FATEZERO_OT_install_engine,
    FATEZERO_OT_update_engine,
    FATEZERO_OT_cancel_install,
    FATEZERO_OT_remove_engine,
)
