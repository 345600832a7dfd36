"""The add-on's operators: thin, over the modules beside this folder."""

from . import (
    again,
    batch,
    checkpoints,
    compare,
    edit,
    engine,
    farm,
    history,
    install,
    masks,
    order,
    prompts,
    queue,
    tune,
)

CLASSES = (
    *edit.CLASSES,
    *again.CLASSES,
    *batch.CLASSES,
    *farm.CLASSES,
    *queue.CLASSES,
    *order.CLASSES,
    *prompts.CLASSES,
    *history.CLASSES,
    *engine.CLASSES,
    *install.CLASSES,
    *checkpoints.CLASSES,
    *masks.CLASSES,
    *tune.CLASSES,
    *compare.CLASSES,
)
