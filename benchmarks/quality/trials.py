"""What could beat the paper's own design, tried inside its loops: ways that the engine's settings do not offer.

They end with the loop: nothing of the source's pixels is laid over the edit, and nothing is steadied. `as_it_is` is the
method itself as far as that, which is what they compare with.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from engine.fatezero.method import EditStep
from engine.fatezero.refined import place_mask

from .baselines import Strategy
from .inside import Inside

_SEED = 5


def as_it_is(inside: Inside) -> np.ndarray:
    """The method's loops, with nothing changed."""
    return inside.frames(inside.edit(inside.inversion, inside.plan)[-1])


def negative_source(inside: Inside) -> np.ndarray:
    """Guidance away from the source prompt in place of the empty one: where both prompts agree, nothing is pushed."""
    inside.embeddings = inside.embeddings | {"empty": inside.embeddings["source"]}
    return as_it_is(inside)


def falling(fall: float, inside: Inside) -> np.ndarray:
    """Guidance that falls by another part of itself (`EditPlan.guidance_fall`), or below 0 rises."""
    return inside.frames(inside.edit(inside.inversion, replace(inside.plan, guidance_fall=fall))[-1])


def drift_corrected(inside: Inside) -> np.ndarray:
    """What a guided step makes of the source's exact latents is compared with the inversion's own next ones, and the edit is
    moved by the difference wherever it may change: the drift that direct inversion (arXiv 2310.01506) takes out of the
    source's branch. That branch itself has none here, as every step takes it from the inversion."""
    state, latents = None, inside.inversion.latents
    again = replace(inside.plain_plan(), target=inside.plan.source)
    for step in range(inside.schedule.steps):
        noisy, wanted = latents[inside.schedule.steps - step], latents[inside.schedule.steps - step - 1]
        drift = wanted - inside.step(again, EditStep(step - 1, noisy)).latents
        state = inside.step(inside.plan, state)
        moved = state.latents + drift
        if state.latent_masks:
            moved = torch.where(torch.stack(state.latent_masks).any(0), moved, state.latents)
        state.latents = moved
    return inside.frames(state.latents)


def renoised(share: float, inside: Inside) -> np.ndarray:
    """Begins with fresh noise, the same in every frame, for `share` of the inversion's in the place of the blend words: what
    the inverted noise remembers of the old shape is weakened there."""
    plan, noisy = inside.plan, inside.inversion.latents[-1]
    tokens = plan.source.positions(plan.blend.source_words) if plan.blend else []
    if tokens:
        sizes = inside.unet.sizes(noisy)
        grid = sizes[inside.unet.profile.mask_level]
        place = place_mask(inside.inversion.mean_maps(), tokens, grid, sizes[0], plan.blend.threshold)
        fresh = torch.randn(noisy[:1].shape, generator=torch.Generator().manual_seed(_SEED))
        noisy = torch.where(place, (1 - share) ** 0.5 * noisy + share**0.5 * fresh, noisy)
    state = EditStep(-1, noisy)
    for _ in range(inside.schedule.steps):
        state = inside.step(plan, state)
    return inside.frames(state.latents)


def smoothed_maps(reach: int, inside: Inside) -> np.ndarray:
    """Masks from maps that are averaged over so many frames on either side, as far as there are."""
    inside.inversion.maps = [_over_frames(maps, reach) for maps in inside.inversion.maps]
    return as_it_is(inside)


def _over_frames(maps: torch.Tensor, reach: int) -> torch.Tensor:
    """(F, pixels, tokens), each frame the mean of its neighbours and itself."""
    rows = maps.flatten(1).T[:, None]
    return functional.avg_pool1d(rows, 2 * reach + 1, 1, reach, count_include_pad=False)[:, 0].T.reshape(maps.shape)


TRIALS = (
    Strategy("the loops alone", run=as_it_is),
    Strategy("source prompt as negative", run=negative_source),
    Strategy("guidance the same in all steps", run=partial(falling, 0.0)),
    Strategy("guidance rising from 0.5 to 1.5 of itself", run=partial(falling, -0.5)),
    Strategy("drift corrected", run=drift_corrected),
    Strategy("a quarter of fresh noise", run=partial(renoised, 0.25)),
    Strategy("half of fresh noise", run=partial(renoised, 0.5)),
    Strategy("fresh noise", run=partial(renoised, 1.0)),
    Strategy("maps smoothed over 1 frame", run=partial(smoothed_maps, 1)),
    Strategy("maps smoothed over 2 frames", run=partial(smoothed_maps, 2)),
)
