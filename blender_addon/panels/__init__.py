"""The panels in the sequencer's sidebar: they only draw."""

from . import batch, edit, engine, masks, part, prompts, queue, versions

CLASSES = (
    *edit.CLASSES,
    *part.CLASSES,
    *prompts.CLASSES,
    *queue.CLASSES,
    *masks.CLASSES,
    *versions.CLASSES,
    *batch.CLASSES,
    *engine.CLASSES,
)
