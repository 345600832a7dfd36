"""How well a clip comes back that was edited into its own prompt: whether the model knows what is in it."""

from __future__ import annotations

from math import inf, log10

from torch import Tensor

WELL, HARDLY = 22.0, 18.0
"""Decibels from which a clip is known well, and below which hardly."""


class Reconstruction:
    """Gathers the difference of a clip and its reconstruction, some frames at a time, in the model's size."""

    def __init__(self):
        self._squares, self._count = 0.0, 0

    def compare(self, source: Tensor, again: Tensor) -> None:
        """Take in pictures (n, 3, H, W) in -1 to 1, and what has become of them."""
        difference = again.float().cpu().clamp(-1, 1) - source
        self._squares += float(difference.double().square().sum())
        self._count += difference.numel()

    @property
    def decibels(self) -> float:
        """Peak signal-to-noise ratio."""
        return 10 * log10(4 * self._count / self._squares) if self._squares else inf

    def note(self) -> str:
        """What that means, for the user."""
        told = f"The clip comes back from its own prompt with a PSNR of {self.decibels:.1f} dB"
        if self.decibels >= WELL:
            return f"{told}: the model knows it well, and edits will keep what they shall."
        if self.decibels >= HARDLY:
            return f"{told}: the model knows it so-so; naming more of what is in it may help."
        return f"{told}: the model hardly knows it; describe it in other words, or use a larger model."
