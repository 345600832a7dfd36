"""The panels in the sequencer's sidebar: they only draw."""

from . import edit, engine, masks

CLASSES = (*edit.CLASSES, *masks.CLASSES, *engine.CLASSES)
