"""The add-on's operators: thin, over the modules beside this folder."""

from . import again, batch, compare, edit, engine, masks, order, prompts, queue

CLASSES = (
    *edit.CLASSES,
    *again.CLASSES,
    *batch.CLASSES,
    *queue.CLASSES,
    *order.CLASSES,
    *prompts.CLASSES,
    *engine.CLASSES,
    *masks.CLASSES,
    *compare.CLASSES,
)
