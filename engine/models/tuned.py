"""UNets of tuned video checkpoints (Tune-A-Video style), in the layout in which they are published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from ..fatezero.temporal import add_temporal_layers
from .checks import as_image_config
from .weights import build

_OTHER_NAMES = {"attn_temp.": "attn_temporal.", "norm_temp.": "norm_temporal."}
"""Tune-A-Video's own names, and those of the checkpoints published for FateZero."""


def build_tuned(config: Mapping[str, Any], state: Mapping[str, Tensor], file: str) -> UNet2DConditionModel:
    """diffusers' UNet with the temporal layers that `state` has weights for; EditError where `file` does not fit `config`."""
    state = {_renamed(name): tensor for name, tensor in state.items()}
    return build(
        UNet2DConditionModel,
        as_image_config(config),
        state,
        file,
        lambda unet: add_temporal_layers(unet, _ranks(state), _blocks(state)),
    )


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
