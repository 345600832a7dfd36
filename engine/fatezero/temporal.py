"""Temporal layers of tuned video checkpoints (Tune-A-Video, arXiv 2212.11565; the low-rank convolutions are FateZero's).

They go into diffusers' UNet as modules: a convolution is swapped for one with a temporal part, and temporal attention
is registered beside a transformer block's own layers and run by a hook after the block. So their weights have the names
under which such checkpoints are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional

from .attention import Call, attention

ALONE = Call(rows=(), frames=1)
"""Outside a call each picture is a clip of its own."""


class TemporalLayer(nn.Module):
    """A layer that sees all frames of a row; `current` is the list that holds the running `Call`."""

    def __init__(self):
        super().__init__()
        self.current: list[Call] = [ALONE]

    def clip_of(self, x: Tensor) -> Tensor:
        """(rows * F, ...) as (rows, F, ...)."""
        return x.unflatten(0, (-1, self.current[0].frames))


class TemporalLowRank(TemporalLayer):
    """Two convolutions of kernel 3 along the frames, without bias, added to what comes in."""

    def __init__(self, channels: int, rank: int):
        super().__init__()
        self.down = nn.Conv1d(channels, rank, 3, padding=1, bias=False)
        self.up = nn.Conv1d(rank, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(rows * F, channels, h, w) to the same."""
        clip = self.clip_of(x).transpose(1, 2)  # (rows, channels, F, h, w)
        change = clip.flatten(3)
        for layer in (self.down, self.up):
            change = functional.conv2d(change, layer.weight.unsqueeze(-1), padding=(1, 0))  # along F alone
        return x + change.view_as(clip).transpose(1, 2).flatten(0, 1)


class TemporalConv2d(nn.Conv2d):
    """Stands in for a UNet's convolution, whose weights it takes over; a temporal one follows it."""

    def __init__(self, conv: nn.Conv2d, rank: int):
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, device="meta"
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.conv_temporal = TemporalLowRank(conv.out_channels, rank)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_temporal(super().forward(x))


class TemporalAttention(TemporalLayer):
    """Self-attention of each pixel over the frames of its row."""

    def __init__(self, channels: int, heads: int, width: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(rows * F, pixels, channels) to the same."""
        clip = self.clip_of(x).transpose(1, 2)  # (rows, pixels, F, channels)
        pixels = clip.flatten(0, 1)
        query, key, value = (
            projection(pixels).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (rows * pixels, heads, F, d)
            for projection in (self.to_q, self.to_k, self.to_v)
        )
        out = self.to_out[0](attention(query, key, value).transpose(1, 2).flatten(2))
        return out.view_as(clip).transpose(1, 2).flatten(0, 1)


def add_temporal_layers(unet: UNet2DConditionModel, ranks: Mapping[str, int], blocks: Iterable[str]) -> None:
    """Give `unet` temporal layers with fresh weights.

    `ranks`: the rank of the low-rank pair, by the name of each convolution that gets one. `blocks`: the names of the
    transformer blocks that get temporal attention. AttributeError where the UNet has no such module.
    """
    for name, rank in ranks.items():
        parent, _, child = name.rpartition(".")
        setattr(unet.get_submodule(parent), child, TemporalConv2d(unet.get_submodule(name), rank))
    for name in blocks:
        block = unet.get_submodule(name)
        channels = block.attn1.to_q.in_features
        block.norm_temporal = nn.LayerNorm(channels)
        block.attn_temporal = TemporalAttention(channels, block.attn1.heads, block.attn1.to_q.out_features)
        block.register_forward_hook(_attend_over_frames)


def has_temporal_layers(unet: UNet2DConditionModel) -> bool:
    """Whether frames of a row see each other inside `unet` whatever a call says."""
    return any(isinstance(module, TemporalLayer) for module in unet.modules())


def _attend_over_frames(block: nn.Module, _, states: Tensor) -> Tensor:
    """What comes out of a transformer block, (rows * F, pixels, channels), with temporal attention after it."""
    return states + block.attn_temporal(block.norm_temporal(states))
