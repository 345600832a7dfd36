"""The panels in the sequencer's sidebar: they only draw."""

from . import edit, engine

CLASSES = (*edit.CLASSES, *engine.CLASSES)
