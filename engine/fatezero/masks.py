"""Masks from averaged cross-attention (FateZero, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

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
