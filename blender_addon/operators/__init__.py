"""The add-on's operators: thin, over the modules beside this folder."""

from . import compare, edit, engine, masks, queue

CLASSES = (*edit.CLASSES, *queue.CLASSES, *engine.CLASSES, *masks.CLASSES, *compare.CLASSES)
