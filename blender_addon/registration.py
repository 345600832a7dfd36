"""What Blender is told of when the add-on is enabled, in order, and what it is told to forget."""

from __future__ import annotations

import atexit

import bpy

from . import (
    checkpoints,
    cli,
    documents,
    estimates,
    finished,
    folders,
    installer,
    jobs,
    keymaps,
    menus,
    notices,
    operators,
    panels,
    preferences,
    preview,
    properties,
    thumbnails,
    translations,
    tuned,
    undo,
    work,
)

CLASSES = (
    properties.FATEZERO_PG_settings,
    *work.CLASSES,
    *undo.CLASSES,
    preferences.FATEZERO_AP_preferences,
    *preview.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
    *notices.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    preferences.register()
    properties.register()
    preview.register()
    panels.masks.register()
    work.register()
    thumbnails.register()
    cli.register()
    documents.register()
    jobs.register()
    finished.listeners += [estimates.learn, tuned.adopt]
    notices.register()
    menus.register()
    keymaps.register()
    translations.register()
    folders.remove_leftovers()
    atexit.register(_end)  # `bpy` as a module ends without disabling its add-ons


def unregister() -> None:
    atexit.unregister(_end)
    _end()
    for listener in (estimates.learn, tuned.adopt):
        finished.listeners.remove(listener)
    translations.unregister()
    keymaps.unregister()
    menus.unregister()
    notices.unregister()
    jobs.unregister()
    documents.unregister()
    cli.unregister()
    thumbnails.unregister()
    work.unregister()
    panels.masks.unregister()
    preview.unregister()
    properties.unregister()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)


def _end() -> None:
    jobs.session.close()
    for kind in (installer, checkpoints):
        if kind.current:
            kind.current.stop()
