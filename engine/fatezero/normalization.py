"""Group normalisation over one frame or over a whole clip."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import Call


class ClipGroupNorm(nn.Module):
    """Stands in for a residual block's GroupNorm: with `Call.pooled_norm`, statistics are those of all frames of a row.

    The authors' program normalises (channels, F, h, w) there; an image model was trained on (channels, h, w).
    """

    def __init__(self, norm: nn.GroupNorm, current: list[Call]):
        super().__init__()
        self.norm, self.current = norm, current

    def forward(self, x: Tensor) -> Tensor:
        """(rows * F, channels, h, w) to the same."""
        call = self.current[0]
        if not call.pooled_norm:
            return self.norm(x)
        clip = x.unflatten(0, (-1, call.frames)).transpose(1, 2)  # (rows, channels, F, h, w)
        return self.norm(clip).transpose(1, 2).flatten(0, 1)
