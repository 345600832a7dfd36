"""UNets of tuned video checkpoints (Tune-A-Video style), in the layout in which they are published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ..fatezero.temporal import add_temporal_layers
from .checks import as_image_config
from .files import first_line, refuse

_OTHER_NAMES = {"attn_temp.": "attn_temporal.", "norm_temp.": "norm_temporal."}
"""Tune-A-Video's own names, and those of the checkpoints published for FateZero."""


def build_tuned(config: Mapping[str, Any], state: Mapping[str, Tensor], file: str) -> UNet2DConditionModel:
    """diffusers' UNet with the temporal layers that `state` has weights for; EditError where `file` does not fit `config`."""
    state = {_renamed(name): tensor.float() for name, tensor in state.items()}
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(as_image_config(config))
            add_temporal_layers(unet, _ranks(state), _blocks(state))
        lacking, unknown = unet.load_state_dict(state, strict=False, assign=True)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise refuse(f"{file} does not fit the checkpoint's config.json ({first_line(error)}).") from error
    if lacking:
        raise refuse(f"{file} is incomplete: it lacks {len(lacking)} tensors, such as {lacking[0]}.")
    if unknown:
        raise refuse(f"{file} holds {len(unknown)} tensors of another make of tuned model, such as {unknown[0]}.")
    return unet


def _ranks(state: Mapping[str, Tensor]) -> dict[str, int]:
    """The rank of each convolution's temporal part, by the convolution's name."""
    end = ".conv_temporal.down.weight"
    return {name.removesuffix(end): len(tensor) for name, tensor in state.items() if name.endswith(end)}


def _blocks(state: Mapping[str, Tensor]) -> list[str]:
    """The transformer blocks that have temporal attention."""
    end = ".norm_temporal.weight"
    return [name.removesuffix(end) for name in state if name.endswith(end)]


def _renamed(name: str) -> str:
    for old, new in _OTHER_NAMES.items():
        name = name.replace(old, new)
    return name
