"""FateZero's two loops: inversion, and editing with the inversion's attention (sections 3.2 to 3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from .attention import EMPTY, SOURCE, TARGET, Call, CrossEdit
from .masks import blend_mask
from .prompts import Prompt, can_replace, refine_matrix, replace_matrix, token_weights, token_window
from .schedule import Schedule, guide
from .unet import FateZeroUNet


@dataclass(frozen=True)
class TemporalSettings:
    """How frames see each other; inversion and editing must agree in it."""

    keys: tuple[str, ...] = ("mid",)
    """Spatial-temporal self-attention's frames for keys and values (section 3.4)."""
    pooled_norm: bool = False
    """Group normalisation over the clip, as the authors ran it, instead of each frame."""


@dataclass(frozen=True)
class Blend:
    """Where the edit may leave the source's shape (section 3.3); words are matched whole."""

    source_words: tuple[str, ...]
    target_words: tuple[str, ...] = ()
    threshold: float = 0.3
    attention: bool = True
    """Blend self-attention by the mask."""
    latents: bool = False
    """Keep the inverted latents outside the mask."""


@dataclass(frozen=True)
class EditPlan:
    """What to do in which of the N steps; windows are fractions, 0 being the first (noisiest) step."""

    source: Prompt
    target: Prompt
    guidance: float = 7.5
    replace: bool = False
    """Swap words one for one; where the word counts differ, the prompts are aligned instead."""
    cross_window: tuple[float, float] = (0.0, 0.8)
    word_windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    word_weights: Mapping[str, float] = field(default_factory=dict)
    self_window: tuple[float, float] = (0.0, 0.5)
    blend: Blend | None = None

    def self_steps(self, steps: int) -> range:
        """Steps in which the source's self-attention is injected."""
        start, end = self.self_window
        return range(int(steps * start), int(steps * end))

    def blends_latents(self, step: int, steps: int) -> bool:
        """Whether latents are blended after `step` of `steps`."""
        return bool(self.blend and self.blend.latents) and int(0.2 * steps) < step + 1 < int(0.8 * steps)

    def cross_edits(self, steps: int, like: Tensor) -> list[CrossEdit | None]:
        """For each step the edit of cross-attention, on the device and in the type of `like`; None: nothing injected.

        Inside a token's window `new = weight * (matrix's share of P_source, or P_target where it has no partner)`,
        outside it P_target.
        """
        if self.replace and can_replace(self.source, self.target):
            matrix = replace_matrix(self.source, self.target)
            unpaired = torch.zeros(self.target.length)
        else:
            matrix = refine_matrix(self.source, self.target)
            unpaired = 1.0 - matrix.sum(0)
        weights = token_weights(self.target, self.word_weights)
        edits: list[CrossEdit | None] = []
        for inside in token_window(self.target, steps, self.cross_window, self.word_windows)[:steps]:
            gain = inside * weights
            edit = CrossEdit(take=(matrix * gain).to(like), keep=(gain * unpaired + 1.0 - inside).to(like))
            edits.append(edit if inside.any() else None)
        return edits


@dataclass
class Inversion:
    """What editing needs of the source: z^0 ... z^N, and the averaged cross-attention of each call."""

    latents: list[Tensor]
    """N + 1 tensors (F, 4, h, w), float32, from clean to noisy."""
    maps: list[Tensor]
    """N tensors (F, pixels, tokens of the source prompt), in call order."""
    peak_attention_bytes: int = 0

    @property
    def steps(self) -> int:
        return len(self.maps)

    @property
    def attention_bytes(self) -> int:
        """Bytes of attention that are kept."""
        return sum(part.nbytes for part in self.maps)


def invert(
    unet: FateZeroUNet,
    schedule: Schedule,
    latents: Tensor,
    prompt: Prompt,
    embedding: Tensor,
    temporal: TemporalSettings,
) -> Iterator[Inversion]:
    """DDIM inversion of clean `latents` (F, 4, h, w) under the source prompt, without guidance (section 3.1).

    Yields the same growing `Inversion` after each of the schedule's steps.
    """
    inversion = Inversion(latents=[latents.float()], maps=[])
    for timestep in reversed(schedule.timesteps):
        z = inversion.latents[-1]
        call = _call((SOURCE,), z, temporal, gather=SOURCE)
        (output,) = unet([z], timestep, [embedding], call)
        inversion.latents.append(schedule.add_noise(z, schedule.noise(output, z, timestep), timestep))
        inversion.maps.append(call.maps[..., : len(prompt.tokens)].clone())
        inversion.peak_attention_bytes = max(
            inversion.peak_attention_bytes, call.peak_bytes + inversion.attention_bytes
        )
        yield inversion


@dataclass
class EditStep:
    """The edit after a step."""

    step: int
    latents: Tensor
    """(F, 4, h, w), float32."""
    target_maps: Tensor | None = None
    """(F, pixels, tokens): the edit's own cross-attention summed over all steps so far; with latent blending only."""
    latent_masks: list[Tensor] = field(default_factory=list)
    """Boolean (F, 1, h, w) each, where latents were blended in this step: of the source words, of the target words."""
    attention_bytes: int = 0
    """The most that was held for attention in this step, the inversion's averaged maps included."""


def edit(
    unet: FateZeroUNet,
    schedule: Schedule,
    inversion: Inversion,
    plan: EditPlan,
    embeddings: Mapping[str, Tensor],
    temporal: TemporalSettings,
    resume: EditStep | None = None,
) -> Iterator[EditStep]:
    """Denoise from z^N to the edited clip, yielding after each step; goes on after `resume` where it is given.

    `embeddings`: (length, width) of the `source`, `empty` and `target` prompts.
    """
    steps = schedule.steps
    like = torch.empty(0, device=unet.device, dtype=unet.dtype)
    cross_edits = plan.cross_edits(steps, like)
    state = resume or EditStep(step=-1, latents=inversion.latents[-1])
    for step in range(state.step + 1, steps):
        timestep, x = schedule.timesteps[step], state.latents
        inject_self = step in plan.self_steps(steps)
        injects = inject_self or cross_edits[step] is not None
        rows = ((SOURCE,) if injects else ()) + ((EMPTY,) if plan.guidance > 1 else ()) + (TARGET,)
        blends_latents = bool(plan.blend and plan.blend.latents)
        call = _call(
            rows,
            x,
            temporal,
            cross=cross_edits[step],
            inject_self=inject_self,
            mask=attention_mask(unet, plan, inversion, step),
            gather=TARGET if blends_latents else None,
        )
        inverted = inversion.latents[steps - 1 - step]  # what the inversion's call at this timestep started from
        outputs = unet(
            [inverted if row == SOURCE else x for row in rows],
            timestep,
            [embeddings[row] for row in rows],
            call,
        )
        noise = [schedule.noise(output, x, timestep) for output in outputs[1 if injects else 0 :]]
        guided = guide(noise[0] if len(noise) == 2 else None, noise[-1], plan.guidance)
        state = EditStep(step=step, latents=schedule.denoise(x, guided, timestep), target_maps=state.target_maps)
        if blends_latents:
            state.target_maps = call.maps if state.target_maps is None else state.target_maps + call.maps
            if plan.blends_latents(step, steps):
                # `inverted` has the noise level that the edit has come down to: the right partner to blend with.
                state.latent_masks = latent_masks(unet, plan, inversion, state)
                changes = torch.stack(state.latent_masks).any(0)
                state.latents = torch.where(changes, state.latents, inverted)
        summed = 0 if state.target_maps is None else state.target_maps.nbytes
        state.attention_bytes = call.peak_bytes + inversion.attention_bytes + summed
        yield state


def attention_mask(unet: FateZeroUNet, plan: EditPlan, inversion: Inversion, step: int):
    """The blend mask of an edit step by level, boolean (F, pixels), made when a layer first asks; None: no blending."""
    blend = plan.blend
    tokens = plan.source.positions(blend.source_words) if blend and blend.attention else []
    if not tokens:
        return None
    sizes = unet.sizes(inversion.latents[0])
    maps = inversion.maps[inversion.steps - 1 - step]

    @cache
    def at_level(level: int) -> Tensor:
        return blend_mask(maps, tokens, sizes[unet.profile.mask_level], sizes[level], blend.threshold).flatten(1)

    return at_level


def latent_masks(unet: FateZeroUNet, plan: EditPlan, inversion: Inversion, state: EditStep) -> list[Tensor]:
    """Where latents may change, boolean (F, 1, h, w) each; their union is what counts.

    The first is the source words' mask of this step, the second the target words' over all steps so far.
    """
    sizes = unet.sizes(state.latents)
    grid = sizes[unet.profile.mask_level]
    return [
        blend_mask(maps, tokens, grid, sizes[0], plan.blend.threshold)
        for maps, tokens in (
            (inversion.maps[inversion.steps - 1 - state.step], plan.source.positions(plan.blend.source_words)),
            (state.target_maps, plan.target.positions(plan.blend.target_words)),
        )
        if tokens
    ]


def _call(rows: Sequence[str], like: Tensor, temporal: TemporalSettings, **wishes) -> Call:
    return Call(rows=tuple(rows), frames=len(like), keys=temporal.keys, pooled_norm=temporal.pooled_norm, **wishes)
