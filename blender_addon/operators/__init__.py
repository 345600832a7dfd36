"""The add-on's operators: thin, over the modules beside this folder."""

from . import checkpoints, edit, engine, install, prompts, queue

CLASSES = (*edit.CLASSES, *queue.CLASSES, *engine.CLASSES, *install.CLASSES, *checkpoints.CLASSES, *prompts.CLASSES)
