"""What is drawn into the sequencer's preview: masks over the picture, before and after, and a job's live preview."""

from . import gizmo, handler, settings

CLASSES = (settings.FATEZERO_PG_word, settings.FATEZERO_PG_view, *gizmo.CLASSES)


def register() -> None:
    settings.register()
    handler.register()


def unregister() -> None:
    handler.unregister()
    settings.unregister()
