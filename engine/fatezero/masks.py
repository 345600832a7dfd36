"""Masks from averaged cross-attention (FateZero, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


def soft_mask(maps: Tensor, tokens: Sequence[int], grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """How much each place belongs to `tokens`, 1 at each frame's strongest: (F, 1, *size).

    `maps`: (F, pixels, tokens) on a feature map of `grid` (height, width); the words' maps are summed, max-pooled
    3x3, and resized without interpolation.
    """
    total = maps[..., list(tokens)].float().sum(-1)
    pooled = functional.max_pool2d(total.unflatten(-1, grid).unsqueeze(1), kernel_size=3, stride=1, padding=1)
    resized = functional.interpolate(pooled, size=size)
    return resized / resized.amax(dim=(-2, -1), keepdim=True)


def blend_mask(
    maps: Tensor, tokens: Sequence[int], grid: tuple[int, int], size: tuple[int, int], threshold: float
) -> Tensor:
    """Where the edit takes its own attention (or latents): boolean (F, 1, *size)."""
    return soft_mask(maps, tokens, grid, size) > threshold


@dataclass(frozen=True)
class OwnMask:
    """The user's own mask, and what it does to that of the words: `replace`, `limit`, `add` or `subtract`."""

    mode: str
    levels: Tensor
    """(F, 1, h, w) uint8, at the latents' size; more than half of 255 belongs to it."""

    def of(self, frames: Tensor) -> OwnMask:
        """Of some frames."""
        return replace(self, levels=self.levels[frames])

    def over(self, words: Tensor) -> Tensor:
        """The mask of the words, boolean (F, 1, height, width), as this one changes it."""
        own = functional.interpolate(self.levels.float(), size=words.shape[-2:], mode="area") > 127.5
        return combined(words, own.to(words.device), self.mode)


def without_words(mode: str) -> bool:
    """Whether, without blend words, all of the picture may change before an own mask acts on that: the mask alone decides
    then, as all of it is there to be narrowed, and nothing to be added to."""
    return mode != "add"


def combined(words: Tensor, own: Tensor, mode: str) -> Tensor:
    """The mask of the words and the user's own as one; both boolean, or both in levels (uint8)."""
    match mode:
        case "replace":
            return own
        case "limit":
            return torch.minimum(words, own)
        case "add":
            return torch.maximum(words, own)
        case "subtract":
            return torch.minimum(words, ~own)  # of a level: 255 less it
    raise ValueError(f"no mode of a mask: {mode}")
