"""Features of the deeper levels, reused in the next steps (DeepCache, arXiv 2312.00858, section 3).

What comes up to a UNet's finest level changes little from one step to the next. So the steps are done in blocks, a *full*
one and then *shallow* ones, in which the finest level alone is computed, on what the full one has brought up to it. All
steps of a block are done for some frames before the next frames' turn: what is reused is that of one call's frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from diffusers import UNet2DConditionModel
from torch import Tensor, nn


@dataclass
class Deep:
    """What a full call leaves to the shallow ones after it, of the same rows and frames; empty before that call."""

    states: Tensor | None = None
    """(rows * F, channels, h, w): what comes up to the finest level."""
    maps: Tensor | None = None
    """The call's averaged cross-attention (`Call.maps`), where it was gathered."""


def is_full(step: int, reuse: int) -> bool:
    """Whether a step of the edit is a full one, with every `reuse`-th of them full."""
    return step % reuse == 0


def edit_blocks(first: int, steps: int, reuse: int) -> list[range]:
    """The blocks of the edit's steps from `first` on, which begins one."""
    return [range(start, min(start + reuse, steps)) for start in range(first, steps, reuse)]


def inversion_blocks(steps: int, reuse: int) -> list[range]:
    """The blocks of the inversion's calls, in their order: full ones are those at the edit's full steps, and the first.

    So the edit finds the inversion's full attention where it injects it.
    """
    full = [call for call in range(steps) if not call or is_full(steps - 1 - call, reuse)]
    return [range(start, end) for start, end in zip(full, [*full[1:], steps])]


@contextmanager
def finest_level_alone(unet: UNet2DConditionModel, deep: Deep) -> Iterator[None]:
    """While it lasts, `unet` is its finest level, with the states of `deep` in place of all that lies below it."""
    first = unet.down_blocks[0]
    whole = unet.down_blocks, unet.mid_block, unet.up_blocks, first.downsamplers
    unet.down_blocks, unet.up_blocks = nn.ModuleList([first]), nn.ModuleList([unet.up_blocks[-1]])
    unet.mid_block, first.downsamplers = _Below(deep.states), None
    try:
        yield
    finally:
        unet.down_blocks, unet.mid_block, unet.up_blocks, first.downsamplers = whole


class _Below(nn.Module):
    """Stands in for the middle of a UNet."""

    def __init__(self, states: Tensor):
        super().__init__()
        self._states = states

    def forward(self, *_) -> Tensor:
        return self._states
