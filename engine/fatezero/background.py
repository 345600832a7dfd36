"""The source's own pixels wherever an edit's blend words say that nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .refined import grown, window_mean


def edited_share(masks: Sequence[Tensor]) -> Tensor:
    """How much of the edit each place takes, (F, rows, columns) in 0 to 1, from boolean masks (F, 1, rows, columns).

    Their union is grown by one cell and one frame, so that it errs to the edited side. Then it is softened along the
    frames, so that no place changes hands at once; between cells whoever enlarges it interpolates.
    """
    union = torch.stack(list(masks)).any(0).float().transpose(0, 1)  # (1, F, rows, columns)
    grown = functional.max_pool3d(union, kernel_size=3, stride=1, padding=1)
    frames = functional.pad(grown[None], (0, 0, 0, 0, 1, 1), mode="replicate")
    return functional.avg_pool3d(frames, kernel_size=(3, 1, 1), stride=1)[0, 0]


def refined_share(masks: Sequence[Tensor], reach: int) -> Tensor:
    """As `edited_share`, from masks of single frames at the pictures' size, boolean (F, 1, H, W): (F, H, W) in 0 to 1.

    All of the edit as far as `reach` pixels from their union; none at three times that.
    """
    union = torch.stack(list(masks)).any(0)
    return window_mean(grown(union, 2 * reach).float(), (reach, reach))[:, 0]


def lay_over(source: np.ndarray, edited: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The edit over the source, (F, H, W, 3) uint8 like both, by a share (F, H, W) uint8 of 255.

    At 0 the bytes are the source's, at 255 the edit's; the slope between begins and ends flat, as an eye sees kinks.
    """
    weights = _SLOPE[share]
    out = edited.copy()
    for frame, under, weight in zip(out, source, weights):  # a frame at a time: the products are wide
        mixed = np.flatnonzero(weight < 255)
        part = weight.reshape(-1, 1)[mixed].astype(np.uint32)
        over, below = frame.reshape(-1, 3), under.reshape(-1, 3)
        over[mixed] = (over[mixed] * part + below[mixed] * (255 - part) + 127) // 255
    return out


_RISE = np.arange(256) / 255
_SLOPE = np.round(255 * _RISE**2 * (3 - 2 * _RISE)).astype(np.uint8)
"""The smoothstep."""
