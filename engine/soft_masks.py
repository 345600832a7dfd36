"""Masks as people look at them: small, in the frame's aspect, and soft, so that a threshold is up to whoever looks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from protocol.limits import MAX_FRAME_SIDE
from protocol.messages import SoftMask, WordSeen

from .fatezero.masks import soft_mask
from .fatezero.prompts import Prompt
from .geometry import Geometry
from .models.checkpoint import Checkpoint


def of_words(
    words: Iterable[str], source: Prompt, maps: Tensor, grid: tuple[int, int], geometry: Geometry, factor: int
) -> dict[SoftMask, np.ndarray]:
    """For each word (n, h, w) uint8: what the method compares with its threshold, times 255, enlarged to the latents' size.

    `maps`: (n, pixels, tokens) on a feature map of `grid` (height, width); `factor`: pixels along a latent's side.
    """
    return {
        SoftMask(word=word, kind="word", index=source.words.index(word)): small(
            soft_mask(maps, source.positions([word]), grid, grid), geometry, factor
        )
        for word in words
    }


def small(soft: Tensor, geometry: Geometry, factor: int) -> np.ndarray:
    """(n, 1, rows, columns) in 0 to 1, over the padded picture, to (n, h, w) uint8 over the frame, a pixel a latent."""
    size = geometry.small(MAX_FRAME_SIDE, geometry.padded[0] // factor)
    return (geometry.content_of(soft, size)[:, 0] * 255).round().byte().cpu().numpy()


def words_seen(checkpoint: Checkpoint, prompt: Prompt) -> list[WordSeen]:
    """What the model sees of each word of the prompt."""
    seen = []
    for word, span in zip(prompt.words, prompt.spans):
        pieces = checkpoint.tokenizer.tokenize(word)
        whole = sum(piece.endswith("</w>") for piece in pieces)  # one for each part that punctuation parts
        seen.append(WordSeen(word=word, tokens=len(span), cut=len(span) < len(pieces), in_pieces=len(pieces) > whole))
    return seen
