"""Masks with the source's own edges, beside the paper's.

The paper's mask (`masks`) is pooled, so that it reaches a place beyond its object; and it is made anew in each step. Here a
word's map is the mean over all steps of the inversion, not pooled, and a guided filter (He et al., arXiv 1505.00996: the fast
one) draws its edges where the picture has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

CELL = 8
"""Places that the filter fits to along a cell of the maps' grid; a finer guide gets its edges from what was fitted there."""
SMOOTHING = 1e-3
"""Variance (of colours in 0 to 1) below which a guide has no edge; measured: a tenth and ten times of it are no better."""

EVERYWHERE = 0.15
"""A word that is seen at its weakest place by more than this part of its strongest names no place, but the whole picture, as
'night' does. Measured: such words come to 0.24 and more, those of floors, skies and objects to 0.03 at most."""

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Of colours; the other ones have the same products,"""
_OF_PAIR = (0, 1, 2, 1, 3, 4, 2, 4, 5)
"""and this is where those of a 3 x 3 matrix lie among them."""


def relative(maps: Tensor, tokens: Sequence[int], grid: tuple[int, int]) -> Tensor:
    """How much each place belongs to `tokens`, 1 at each frame's strongest: (F, 1, *grid), from maps (F, pixels, tokens)."""
    total = maps[..., list(tokens)].float().sum(-1).unflatten(-1, grid).unsqueeze(1)
    soft = total / total.amax(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(total.dtype).tiny)
    return torch.where(soft.amin(dim=(-2, -1), keepdim=True) > EVERYWHERE, 1.0, soft)


def names_picture(maps: Tensor, tokens: Sequence[int], grid: tuple[int, int]) -> bool:
    """Whether `tokens` name the whole picture in these frames, whose maps are as in `relative`."""
    return bool((relative(maps, tokens, grid) == 1.0).all())


def guided(soft: Tensor, guide: Tensor) -> Tensor:
    """`soft` (F, 1, rows, columns) in 0 to 1 in the size of its `guide` (F, 3, height, width), and with its edges.

    `guide`: colours in 0 to 1. In each window of two cells `soft` is fitted by a linear function of the colours.
    """
    rows, columns = soft.shape[-2:]
    size = tuple(min(side, cells * CELL) for side, cells in zip(guide.shape[-2:], (rows, columns)))
    radius = tuple(max(1, round(side / cells)) for side, cells in zip(size, (rows, columns)))
    colours = functional.interpolate(guide, size=size, mode="area")
    wanted = functional.interpolate(soft, size=size, mode="bilinear")
    squares = torch.stack([colours[:, a] * colours[:, b] for a, b in _PAIRS], 1)
    means = window_mean(torch.cat([colours, wanted, colours * wanted, squares], 1), radius)
    middle, level, together, spread = means.split([3, 1, 3, 6], 1)
    together = together - middle * level
    spread = spread[:, _OF_PAIR].unflatten(1, (3, 3)) - middle[:, :, None] * middle[:, None]
    slope = _solve(spread + SMOOTHING * torch.eye(3, device=guide.device)[:, :, None, None], together)
    offset = level - (slope * middle).sum(1, keepdim=True)
    fitted = functional.interpolate(
        window_mean(torch.cat([slope, offset], dim=1), radius),
        size=guide.shape[-2:],
        mode="bilinear",
    )
    return ((fitted[:, :3] * guide).sum(1, keepdim=True) + fitted[:, 3:]).clamp(0, 1)


def window_mean(values: Tensor, radius: tuple[int, int]) -> Tensor:
    """Of the window around each place, (F, C, h, w), as far as it lies in the picture."""
    shape, values = values.shape, values.flatten(0, 1)[None]  # all in a row, of which a CPU takes many at a time
    if values.device.type == "cpu":
        values = values.contiguous(memory_format=torch.channels_last)  # the same bits, five times as fast
    for side, reach in enumerate(radius):
        size, margin = [1, 1], [0, 0]
        size[side], margin[side] = 2 * reach + 1, reach
        values = functional.avg_pool2d(values, size, 1, margin, count_include_pad=False)
    return values.reshape(shape)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """x of `matrix` (F, 3, 3, h, w), symmetric, times x (F, 3, h, w) = `right`: by its adjugate, at all places at once."""
    columns = [torch.linalg.cross(matrix[:, (n + 1) % 3], matrix[:, (n + 2) % 3], dim=1) for n in range(3)]
    determinant = (matrix[:, 0] * columns[0]).sum(1, keepdim=True)
    return sum(column * right[:, n : n + 1] for n, column in enumerate(columns)) / determinant


def grown(mask: Tensor, by: int = 1) -> Tensor:
    """A boolean mask (F, 1, h, w) with all places that lie no more than `by` from it."""
    rows = functional.max_pool2d(mask.float(), kernel_size=(2 * by + 1, 1), stride=1, padding=(by, 0))
    return functional.max_pool2d(rows, kernel_size=(1, 2 * by + 1), stride=1, padding=(0, by)).bool()


def within_reach(masks: list[Tensor], reach: float) -> list[Tensor]:
    """The masks (F, 1, h, w) of the source's words and the target's, the second cut where it is farther from the first
    than `reach` of the picture's shorter side; one alone as it is."""
    if len(masks) < 2 or reach >= 1:
        return masks
    first, second = masks
    return [first, second & grown(first, round(reach * min(first.shape[-2:])))]


def place_mask(
    maps: Tensor, tokens: Sequence[int], grid: tuple[int, int], size: tuple[int, int], threshold: float
) -> Tensor:
    """As `masks.blend_mask`, boolean (F, 1, *size): not pooled on the maps' own grid, but grown by one place of `size`.

    Where `size` is no finer than the maps, by half a cell of theirs; then a place belongs to it that has any part in it.
    """
    fine = tuple(max(side, 2 * cells) for side, cells in zip(size, grid))
    mask = grown(functional.interpolate(relative(maps, tokens, grid), size=fine, mode="bilinear") > threshold)
    return mask if fine == size else functional.adaptive_max_pool2d(mask.float(), size).bool()
