"""The add-on's operators: thin, over the modules beside this folder."""

from . import again, batch, edit, engine, queue

CLASSES = (*edit.CLASSES, *again.CLASSES, *batch.CLASSES, *queue.CLASSES, *engine.CLASSES)
