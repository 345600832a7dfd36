"""The engine's installation on this computer, in the preferences and in the sidebar."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface_

from .. import chosen, folders, installed, installer
from ..operators.install import EXTENSION, installing
from .text import draw_part, draw_text, draw_trouble


def draw(layout, preferences, width: float) -> None:
    """Everything about it: what is installed, what could be, and how that goes."""
    target = folders.venv_folder()
    layout = draw_part(layout, "Installation")
    draw_state(layout, width)
    if installing():
        draw_progress(layout)
        return
    if len(installer.DEVICES) > 1:
        layout.row().prop(preferences, "install_device", expand=True)
    layout.prop(preferences, "install_python", placeholder=iface_("Blender's own, or one that is found"))
    download, disk = installer.SIZES[preferences.install_device]
    words = iface_("About {download:g} GB to download and {disk:g} GB on disk; {free:.0f} GB are free").format(
        download=download, disk=disk, free=installer.free_gigabytes(target)
    )
    draw_text(layout.column(), [words], width, icon="DISK_DRIVE", translate=False)
    row = layout.row()
    there = target.is_dir()
    row.operator("fatezero.install_engine", text="Install Again" if there else "Install Engine", icon="IMPORT")
    if there or installer.downloads_of(target).is_dir():
        row.operator("fatezero.remove_engine", icon="TRASH")
    log = installer.log_of(target)
    if log.is_file():
        row.operator("wm.path_open", text="Installation's Log", icon="TEXT").filepath = str(log)
    if installer.current and installer.current.trouble:
        draw_trouble(layout, installer.current.trouble, width)


def draw_state(column, width: float) -> None:
    """Which engine there is, and whether it is the add-on's."""
    target = folders.venv_folder()
    note = installed.read(target)
    if note:
        words = iface_("Version {version} for {device}, {size:.1f} GB").format(
            version=note.version, device=device_name(note.parts.device), size=note.size / 1e9
        )
        column.label(text=words, icon="CHECKMARK", translate=False)
        draw_outdated(column, width)
    elif chosen.engine_python():
        column.label(text="Another Python has the engine", icon="CHECKMARK")
    else:
        column.label(text="Not installed", icon="ERROR")


def draw_outdated(column, width: float) -> None:
    """Offer an update, where the installed engine is another one than the add-on's."""
    outdated = installed.outdated(EXTENSION, folders.venv_folder())
    if not outdated or installing():
        return
    words = {
        "engine": "This add-on brings another version of the engine; nothing has to be downloaded",
        "all": "This add-on brings another version of the engine, with packages that have to be downloaded",
    }
    draw_text(column.column(), [words[outdated]], width, icon="INFO")
    column.operator("fatezero.update_engine", icon="FILE_REFRESH")


def draw_progress(layout) -> None:
    """How far an installation has come, and a way to end it."""
    current = installer.current
    words = iface_("Cancelling") if current.cancelled else iface_(current.stage).format(file=current.file)
    row = layout.row(align=True)
    row.progress(factor=current.fraction, text=words, translate=False)
    row.operator("fatezero.cancel_install", text="", icon="X")


def device_name(device: str) -> str:
    """What is computed on, as people say it."""
    return iface_({"CPU": "Processor", "CUDA": "NVIDIA GPU", "APPLE": "Apple GPU"}.get(device, device))
