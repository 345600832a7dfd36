"""Masks as people look at them: small, in the frame's aspect, and soft, so that a threshold is up to whoever looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from protocol.limits import MAX_FRAME_SIDE
from protocol.messages import SoftMask, WordSeen

from .fatezero.masks import soft_mask
from .fatezero.prompts import Prompt
from .fatezero.refined import guided, relative
from .geometry import Geometry
from .models.checkpoint import Checkpoint

REFINED_SIDE = 128
"""Pixels of the longer side of a soft mask with the picture's edges, where latents have fewer."""


@dataclass(frozen=True)
class WordMasks:
    """Makes masks of words for looking at: what the method compares with its threshold."""

    prompt: Prompt
    grid: tuple[int, int]
    """(rows, columns) of the feature map that masks come from."""
    geometry: Geometry
    factor: int
    """Pixels along a latent's side."""
    refined: bool
    """With the picture's own edges, which the method's at the latents' size only come near to."""

    def of_words(
        self, words: Iterable[str], maps: Tensor, pictures: Tensor
    ) -> tuple[dict[str, np.ndarray], dict[SoftMask, np.ndarray]]:
        """For each word (n, H, W) uint8 in the frames' size, and (n, h, w) uint8, small: 255 is each frame's strongest place.

        `maps`: (n, pixels, tokens), the source's, mean over all steps; `pictures`: the same frames for the model (n, 3, H, W)
        in -1 to 1.
        """
        whole, shown = {}, {}
        for word in words:
            soft = self.soft(self.prompt.positions([word]), maps, pictures)
            whole[word] = self.geometry.to_masks(soft[:, 0])
            key = SoftMask(word=word, kind="word", index=self.prompt.words.index(word))
            shown[key] = small(soft, self.geometry, self.factor, REFINED_SIDE if self.refined else 0)
        return whole, shown

    def soft(self, tokens: list[int], maps: Tensor, pictures: Tensor) -> Tensor:
        """(n, 1, rows, columns) in 0 to 1, over the padded picture; maps and pictures as in `of_words`."""
        if not self.refined:
            return soft_mask(maps, tokens, self.grid, self.grid)
        return guided(relative(maps, tokens, self.grid), (pictures.to(maps.device) + 1) / 2)


def small(soft: Tensor, geometry: Geometry, factor: int, least: int = 0) -> np.ndarray:
    """(n, 1, rows, columns) in 0 to 1, over the padded picture, to (n, h, w) uint8 over the frame.

    A pixel a latent, or smaller ones so that the longer side of the padded picture has `least`.
    """
    width = geometry.padded[0]
    longest = max(max(geometry.padded) // factor, min(least, max(geometry.padded)))
    size = geometry.small(MAX_FRAME_SIDE, round(width * longest / max(geometry.padded)))
    return (geometry.content_of(soft, size)[:, 0] * 255).round().byte().cpu().numpy()


def words_seen(checkpoint: Checkpoint, prompt: Prompt) -> list[WordSeen]:
    """What the model sees of each word of the prompt."""
    seen = []
    for word, span in zip(prompt.words, prompt.spans):
        pieces = checkpoint.tokenizer.tokenize(word)
        whole = sum(piece.endswith("</w>") for piece in pieces)  # one for each part that punctuation parts
        seen.append(WordSeen(word=word, tokens=len(span), cut=len(span) < len(pieces), in_pieces=len(pieces) > whole))
    return seen
