"""The panels in the sequencer's sidebar: they only draw."""

from . import batch, edit, engine, versions

CLASSES = (*edit.CLASSES, *versions.CLASSES, *batch.CLASSES, *engine.CLASSES)
