"""What an edit under way looks like, from its latents alone: small pictures without the autoencoder.

A latent pixel and its neighbours say nearly linearly what is in their place of the picture. The map is fitted to the
clip's own latents and pixels, so it is right for any checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from protocol import limits

from .clips import Clip
from .geometry import Geometry

EVERY = 1.0
"""Seconds between two previews at least."""
SHARE = 0.01
"""Of the edit's time that they may take: where they are dear they come less often."""
RIDGE = 0.2
"""Of the features' mean square, added to each: an edit leaves the clip's few colours, and the map has to hold there. (For
a clip of three flat colours 0.001 fits 1 dB better, and shows the edit 5 dB worse.)"""


@dataclass(frozen=True)
class Preview:
    """Some frames of a running edit after `step` of `steps`: `pictures` (n, H, W, 3) uint8 of the clip's `frames`."""

    step: int
    steps: int
    frames: list[int]
    pictures: np.ndarray


class LatentColours:
    """A linear map from 3 x 3 latent pixels to the `scale` x `scale` colours that the middle one stands for."""

    def __init__(self, latents: Tensor, pictures: Tensor):
        """Fit it to latents (F, 4, h, w) of pictures (F, 3, H, W) in -1 to 1, whose sides are multiples of theirs."""
        height, width = latents.shape[-2:]
        self.scale = max(1, min(pictures.shape[-1] // width, limits.MAX_PREVIEW_SIDE // max(height, width)))
        small = functional.interpolate(pictures, size=(height * self.scale, width * self.scale), mode="area")
        known = _features(latents).double()
        wanted = functional.pixel_unshuffle(small, self.scale).movedim(1, -1).flatten(0, -2).double()
        square = known.T @ known
        square.diagonal().add_(RIDGE * square.diagonal().mean())
        self._weights = torch.linalg.solve(square, known.T @ wanted).float()

    def __call__(self, latents: Tensor) -> Tensor:
        """(F, 4, h, w) to (F, 3, h * scale, w * scale)."""
        colours = _features(latents) @ self._weights
        planes = colours.unflatten(0, (len(latents), *latents.shape[-2:])).movedim(-1, 1)
        return functional.pixel_shuffle(planes, self.scale)


class Previewer:
    """Says before each step which frames it wants, and shows what it gets of them."""

    def __init__(self, clip: Clip, geometry: Geometry, show: Callable[[Preview], None]):
        self._clip, self._geometry, self._show = clip, geometry, show
        count = min(clip.shape[0], limits.MAX_PREVIEW_FRAMES)
        self._frames = sorted({round(place) for place in np.linspace(0, clip.shape[0] - 1, count)})
        self._colours: LatentColours | None = None
        self._due = 0.0

    def watched(self) -> Collection[int]:
        """The frames that are wanted of the next step: none where it is too soon."""
        return self._frames if time.monotonic() >= self._due else ()

    def take(
        self,
        step: int,
        steps: int,
        clean: Mapping[int, Tensor] | Tensor,
        source: Callable[[], Tensor],
        began: float | None = None,
    ) -> None:
        """Show the prediction `clean` (4, h, w) by frame after `step`; `source`: the clip's own latents (F, 4, h, w).

        `began`: when (of `time.monotonic`) work on it began that was done for this alone.
        """
        began = time.monotonic() if began is None else began
        if self._colours is None:
            pictures = self._geometry.to_model(self._clip[self._frames][..., :3])
            self._colours = LatentColours(source()[self._frames].float().cpu(), pictures)
        latents = torch.stack([clean[frame] for frame in self._frames]).float().cpu()
        shown = self._colours(latents)
        size = self._geometry.small(limits.MAX_PREVIEW_SIDE, self._colours.scale * latents.shape[-1])
        pictures = self._geometry.content_of(shown, size).clamp(-1, 1).add(1).mul(127.5).round().byte()
        self._show(Preview(step, steps, self._frames, pictures.movedim(1, -1).numpy()))
        now = time.monotonic()
        self._due = now + max(EVERY, (now - began) / SHARE)


def _features(latents: Tensor) -> Tensor:
    """(F * h * w, 4 * 9 + 1): each latent pixel with its neighbours, and a 1."""
    padded = functional.pad(latents, (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, kernel_size=3).movedim(1, -1).flatten(0, 1)
    return functional.pad(around, (0, 1), value=1.0)
