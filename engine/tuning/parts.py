"""What tuning adds to an image model's UNet, and which of its weights are trained (Tune-A-Video, arXiv 2212.11565).

Tune-A-Video (section 3.2) trains the new temporal attention and the query projections of the spatial-temporal
self-attention and of the cross-attention, and leaves all else alone; FateZero's shape editing adds low-rank temporal
convolutions, which are trained too. So these are trained, by name: `attn_temporal` with its `norm_temporal`,
`conv_temporal`, `attn1.to_q` and `attn2.to_q`.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from ..fatezero.temporal import TemporalAttention, TemporalLowRank, add_temporal_layers

TRAINED = ("attn_temporal.", "norm_temporal.", "conv_temporal.", "attn1.to_q.", "attn2.to_q.")
"""By parts of their names."""


def add_fresh_parts(unet: UNet2DConditionModel, rank: int, seed: int) -> None:
    """Give `unet` temporal layers that change nothing yet: what each puts out last is zero, weight and bias.

    Every convolution of kernel 3 gets a low-rank pair of `rank`, or of half its width where that is less.
    """
    ranks = {
        name: min(rank, max(1, module.out_channels // 2))
        for name, module in unet.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
    }
    blocks = [name for name, module in unet.named_modules() if isinstance(module, BasicTransformerBlock)]
    device = unet.device
    with torch.random.fork_rng(devices=[]):  # the weights are made on the processor, the same ones for every device
        torch.manual_seed(seed)
        add_temporal_layers(unet, ranks, blocks)
    with torch.no_grad():
        for module in unet.modules():
            if isinstance(module, TemporalLowRank):
                module.up.weight.zero_()
            elif isinstance(module, TemporalAttention):
                module.to_out[0].weight.zero_()
                module.to_out[0].bias.zero_()
    unet.to(device)


def trained_parameters(unet: nn.Module, parts: tuple[str, ...] = TRAINED) -> dict[str, nn.Parameter]:
    """The parameters with one of `parts` in their names, by their names in the checkpoint, in the order of those."""
    return {
        name: parameter for name, parameter in sorted(unet.named_parameters()) if any(part in name for part in parts)
    }
