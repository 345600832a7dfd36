"""The add-on's operators: thin, over the modules beside this folder."""

from . import edit, engine, farm, queue

CLASSES = (*edit.CLASSES, *queue.CLASSES, *engine.CLASSES, *farm.CLASSES)
