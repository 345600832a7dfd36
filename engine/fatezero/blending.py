"""Where an edit may change something: the masks of its blend words in each step (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .masks import OwnMask, blend_mask, without_words
from .refined import place_mask, within_reach

if TYPE_CHECKING:
    from .method import EditPlan
    from .unet import FateZeroUNet


@dataclass(frozen=True)
class Blend:
    """Where the edit may leave the source's shape (section 3.2); words are matched whole."""

    source_words: tuple[str, ...]
    target_words: tuple[str, ...] = ()
    threshold: float = 0.3
    reach: float = 1.0
    """How far the target words' place may reach beyond the source words', as a part of the picture's shorter side."""
    attention: bool = True
    """Blend self-attention by the mask."""
    latents: bool = False
    """Keep the inverted latents outside the mask."""
    latent_window: tuple[float, float] = (0.2, 0.8)
    """The steps in which they are kept, the authors' by default; with an end of 1 the last step is among them."""
    background: bool = False
    """The masks of the whole edit are wanted after it (`background`)."""
    refined: bool = False
    """Masks are those of `refined`: of the source's words from the mean over all steps, known before the first."""
    own: OwnMask | None = None
    """The user's own mask. It makes blend words dispensable: the place that may change its shape (`attention`) is nowhere
    then, and the place that may change at all (`latents`) is `masks.without_words`, before the own mask acts on them."""

    @property
    def mask_of(self) -> Callable[..., Tensor]:
        """Makes masks of maps, as `masks.blend_mask` does."""
        return place_mask if self.refined else blend_mask

    @property
    def sums_target_maps(self) -> bool:
        """Whether the edit's own cross-attention is summed over its steps."""
        return self.latents or (self.background and bool(self.target_words))


def attention_mask(
    unet: FateZeroUNet,
    plan: EditPlan,
    maps: Tensor | None,
    sizes: list[tuple[int, int]],
    own: OwnMask | None = None,
) -> Callable[[int], Tensor] | None:
    """The blend mask of an edit step by level, boolean (F, pixels), made when a layer first asks; None: no blending.

    `maps` (F, pixels, tokens) of the inversion's call at the step's timestep, or where masks are refined their mean over
    all; `sizes` (height, width) of the levels; `own` of the same frames.
    """
    blend = plan.blend
    if not plan.blends_attention:
        return None
    tokens = plan.source.positions(blend.source_words)

    @cache
    def at_level(level: int) -> Tensor:
        if tokens:
            mask = blend.mask_of(maps, tokens, sizes[unet.profile.mask_level], sizes[level], blend.threshold)
        else:
            mask = torch.zeros(len(maps), 1, *sizes[level], dtype=torch.bool, device=maps.device)
        return (own.over(mask) if own else mask).flatten(1)

    return at_level


def changing_masks(
    unet: FateZeroUNet,
    plan: EditPlan,
    source_maps: Tensor,
    target_maps: Tensor | None,
    sizes: list[tuple[int, int]],
    level: int = 0,
    own: OwnMask | None = None,
) -> list[Tensor]:
    """Where the edit may leave the source, boolean (F, 1, height, width) each at `level`; their union is what counts.

    The first is the source words' mask of a step, or of all; the second the target words' over all steps so far. With
    the user's `own` mask of these frames there is one alone.
    """
    grid = sizes[unet.profile.mask_level]
    masks = [
        plan.blend.mask_of(maps, tokens, grid, sizes[level], plan.blend.threshold)
        for maps, tokens in (
            (source_maps, plan.source.positions(plan.blend.source_words)),
            (target_maps, plan.target.positions(plan.blend.target_words)),
        )
        if tokens
    ]
    masks = within_reach(masks, plan.blend.reach)
    if own is None:
        return masks
    if masks:
        words = torch.stack(masks).any(0)
    else:
        size = len(source_maps), 1, *sizes[level]
        words = torch.full(size, without_words(own.mode), dtype=torch.bool, device=source_maps.device)
    return [own.over(words)]
