"""FateZero's two loops: inversion, and editing with the inversion's attention (sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from .attention import EMPTY, SOURCE, TARGET, Call, CrossEdit, Source, Text
from .blending import Blend, attention_mask, changing_masks
from .frames import Between, Frames, MadeFrames, TemporalSettings, calls, calls_of_block, put
from .prompts import Prompt, can_replace, refine_matrix, replace_matrix, token_weights, token_window
from .refined import names_picture
from .reuse import edit_blocks, inversion_blocks, is_full
from .schedule import Schedule, guide
from .sources import KeptSources
from .unet import FateZeroUNet


@dataclass(frozen=True)
class EditPlan:
    """What to do in which of the N steps; windows are fractions, 0 being the first (noisiest) step."""

    source: Prompt
    target: Prompt
    guidance: float = 7.5
    guidance_fall: float = 0.0
    """Guidance begins so much of itself higher and ends so much lower; 0 as in the paper."""
    replace: bool = False
    """Swap words one for one; where the word counts differ, the prompts are aligned instead."""
    cross_window: tuple[float, float] = (0.0, 0.8)
    word_windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    word_weights: Mapping[str, float] = field(default_factory=dict)
    picture_weight: float = 1.0
    """Of the blend's target words that have no weight of their own, where its source words name the whole picture: a word
    that no place is looked for in is one among many to all of them."""
    self_window: tuple[float, float] = (0.0, 0.5)
    blend: Blend | None = None
    reuse: int = 1
    """Of so many steps one is full; the others reuse its deeper levels, and with them what it has injected (`reuse`)."""

    def self_steps(self, steps: int) -> range:
        """Steps in which the source's self-attention is injected."""
        start, end = self.self_window
        return range(int(steps * start), int(steps * end))

    def guidance_at(self, step: int, steps: int) -> float:
        """Guidance of `step` of `steps`: it falls evenly, to no less than 1, below which the target would be left."""
        if self.guidance <= 1 or steps == 1:
            return self.guidance
        return max(1.0, self.guidance * (1 + self.guidance_fall * (1 - 2 * step / (steps - 1))))

    @property
    def blends_attention(self) -> bool:
        """Whether self-attention is blended where it is injected."""
        blend = self.blend
        return bool(blend and blend.attention and (self.source.positions(blend.source_words) or blend.own))

    def blends_latents(self, step: int, steps: int) -> bool:
        """Whether latents are blended after `step` of `steps`."""
        if not (self.blend and self.blend.latents):
            return False
        start, end = self.blend.latent_window
        return int(start * steps) < step + 1 and (end == 1 or step + 1 < int(end * steps))

    def masked_steps(self, steps: int) -> int:
        """In how many of the steps a mask says where the edit may change something."""
        attention = [own and self.blends_attention for own, _ in self.takes(steps)]
        return sum(attention[step] or self.blends_latents(step, steps) for step in range(steps))

    def takes(self, steps: int) -> list[tuple[bool, bool]]:
        """For each step whether the source's self-attention, and its cross-attention, are injected: in full ones alone."""
        window = token_window(self.target, steps, self.cross_window, self.word_windows).any(1).tolist()
        full, own = [is_full(step, self.reuse) for step in range(steps)], self.self_steps(steps)
        return [(full[step] and step in own, full[step] and window[step]) for step in range(steps)]

    def idle_weights(self, steps: int) -> list[str]:
        """The words whose weight, other than 1, counts in none of the steps: no full one is inside their window."""
        full = [is_full(step, self.reuse) for step in range(steps)]
        inside = token_window(self.target, steps, self.cross_window, self.word_windows)[:steps][full].any(0)
        weights = self.word_weights.items()
        return [word for word, weight in weights if weight != 1.0 and not inside[self.target.positions([word])].any()]

    @property
    def asks_for_picture_words(self) -> bool:
        """Whether an edit must know if its blend words name the whole picture."""
        blend = self.blend
        return bool(
            self.picture_weight != 1.0 and blend and blend.refined and self.source.positions(blend.source_words)
        )

    def with_picture_words(self) -> EditPlan:
        """The plan for an edit whose blend words name the whole picture."""
        weights = dict.fromkeys(self.blend.target_words, self.picture_weight) | dict(self.word_weights)
        return replace(self, word_weights=weights)

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


class Steps(Protocol):
    """One tensor a step, in memory (a list) or elsewhere: the loops below read one at a time, some frames of it, and keep
    none."""

    def __len__(self) -> int: ...
    def __getitem__(self, step: int) -> Frames: ...
    def append(self, frames: Frames, /) -> None: ...


@dataclass
class Inversion:
    """What editing needs of the source: z^0 ... z^N, and the averaged cross-attention of each call.

    A partly done one has fewer steps; at least it has z^0.
    """

    latents: Steps
    """N + 1 tensors (F, 4, h, w), float32, from clean to noisy."""
    maps: Steps = field(default_factory=list)
    """N tensors (F, pixels, tokens of the source prompt), in call order."""
    peak_attention_bytes: int = 0
    """The most that was held for attention at one time, beside `maps`."""

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return min(len(self.maps), len(self.latents) - 1)

    def table(self, frames: int, values: Tensor) -> MadeFrames:
        """For something of `frames` frames that is made some `values` (n, ...) at a time: where z^0 lies."""
        device = self.latents[0].device if len(self.latents) else values.device
        return torch.empty(frames, *values.shape[1:], dtype=values.dtype, device=device)

    def mean_maps(self) -> Frames:
        """(F, pixels, tokens): `maps`, mean over the steps that are done."""
        return sum(self.maps[step] for step in range(self.steps)) / self.steps


def invert(
    unet: FateZeroUNet,
    schedule: Schedule,
    inversion: Inversion,
    prompt: Prompt,
    embedding: Tensor,
    temporal: TemporalSettings,
    chunk: int | None = None,
    between: Between = lambda share: None,
    kept: KeptSources | None = None,
    reuse: int = 1,
) -> Iterator[Inversion]:
    """DDIM inversion under the source prompt, without guidance (section 3.1), from where `inversion` has come to.

    Yields the same growing `Inversion` after each of the schedule's steps. `chunk`: frames that go through the UNet
    together, where the clip need not be whole; none: all. Tensors lie where z^0 lies, whatever the UNet's device. `kept`
    takes what the edit will need of the source, on that device. `reuse` as in the edit's plan: steps come in blocks then.
    """
    steps, text = schedule.steps, Text(embedding)
    for block in inversion_blocks(steps, reuse):
        if block.stop <= inversion.steps:
            continue
        z = inversion.latents[block.start]
        noisier: list[MadeFrames | None] = [None] * len(block)
        maps, sources, edit_step = [*noisier], [], steps - 1 - block.start
        leaves = bool(kept and kept.wanted(edit_step))
        for part, together in calls_of_block(len(block), temporal, (SOURCE,), len(z), chunk, between):
            for at, call in enumerate(together):
                call.gather, timestep = SOURCE, schedule.timesteps[edit_step - at]
                if leaves and not at:
                    if leaves := kept.fits(sources):
                        call.leaves = kept.empty(edit_step)
                        sources.append(call.leaves)
                    else:
                        sources.clear()
                x = (noisier[at - 1] if at else z)[part].to(unet.device)
                (output,) = unet([x], timestep, [text], call)
                after = schedule.add_noise(x, schedule.noise(output, x, timestep), timestep)
                noisier[at] = put(noisier[at], part, after, inversion.table, len(z))
                maps[at] = put(maps[at], part, call.maps[..., : len(prompt.tokens)], inversion.table, len(z))
                inversion.peak_attention_bytes = max(inversion.peak_attention_bytes, call.peak_bytes)
        if sources:
            kept.keep(edit_step, chunk, sources)
        for at in range(inversion.steps - block.start, len(block)):  # of a block that was cut short, what is missing
            inversion.maps.append(maps[at])
            inversion.latents.append(noisier[at])
            yield inversion


@dataclass
class EditStep:
    """The edit after a step."""

    step: int
    latents: Frames
    """(F, 4, h, w), float32."""
    target_maps: Frames | None = None
    """(F, pixels, tokens): the edit's own cross-attention summed over all steps so far, where masks need it."""
    latent_masks: list[Frames] = field(default_factory=list)
    """Boolean (F, 1, h, w) each, where latents were blended in this step: of the source words, of the target words; with
    the user's own mask one alone."""
    masked: Frames | None = None
    """(F, 1, h, w) int16: in how many steps so far a mask has left each place to the edit, where there are masks."""
    clean: dict[int, Tensor] = field(default_factory=dict)
    """(4, h, w) by frame: the clean latents that this step predicts under the target prompt, without guidance, of the
    frames that were watched."""
    attention_bytes: int = 0
    """The most that was held for attention in this step, beside the inversion's maps."""


def edit(
    unet: FateZeroUNet,
    schedule: Schedule,
    inversion: Inversion,
    plan: EditPlan,
    embeddings: Mapping[str, Tensor],
    temporal: TemporalSettings,
    resume: EditStep | None = None,
    chunk: int | None = None,
    between: Between = lambda share: None,
    kept: KeptSources | None = None,
    watched: Callable[[], Collection[int]] = tuple,
) -> Iterator[EditStep]:
    """Denoise from z^N to the edited clip, yielding after each step, or block of `plan.reuse` steps; goes on after `resume`
    where it is given.

    `embeddings`: (length, width) of the `source`, `empty` and `target` prompts. `chunk` and devices as in `invert`,
    which may have `kept` the source's part of some steps. `watched` is asked before each of them for the frames whose
    prediction (`EditStep.clean`) shall come with it.
    """
    steps = schedule.steps
    mean_maps = inversion.mean_maps() if plan.blend and plan.blend.refined else None
    if plan.asks_for_picture_words:
        noisy = inversion.latents[steps]
        middle, grid = temporal.middle(len(noisy)), unet.sizes(noisy)[unet.profile.mask_level]
        if names_picture(mean_maps[[middle]], plan.source.positions(plan.blend.source_words), grid):
            plan = plan.with_picture_words()
    like = torch.empty(0, device=unet.device, dtype=unet.dtype)
    cross_edits, takes = plan.cross_edits(steps, like), plan.takes(steps)
    texts = {row: Text(embedding) for row, embedding in embeddings.items()}
    rows = ((EMPTY,) if plan.guidance > 1 else ()) + (TARGET,)
    state = resume or EditStep(step=-1, latents=inversion.latents[steps])
    for block in edit_blocks(state.step + 1, steps, plan.reuse):
        frames, left = len(state.latents), kept.take(block.start, chunk) if kept else None
        block_edit: list[_StepEdit] = []
        for step in block:
            seen = watched() if step == block[-1] else ()
            block_edit.append(_StepEdit(unet, schedule, inversion, plan, texts, state, takes[step], seen, mean_maps))
            state = block_edit[-1].after
        sources = calls(temporal, (SOURCE,), frames, chunk, lambda share: None)
        parted = calls_of_block(len(block), temporal, rows, frames, chunk, between)
        for number, ((part, together), (_, source_call)) in enumerate(zip(parted, sources)):
            for step, edited, call in zip(block, block_edit, together):
                if any(takes[step]):
                    call.cross, call.inject_self = cross_edits[step], takes[step][0]
                    call.source = left[number] if left else None
                edited.run(part, call, source_call)
        state.attention_bytes = max(edited.after.attention_bytes for edited in block_edit)
        yield state


class _StepEdit:
    """One step of the edit, put together from its calls: what it starts from, and what it comes to."""

    def __init__(
        self,
        unet: FateZeroUNet,
        schedule: Schedule,
        inversion: Inversion,
        plan: EditPlan,
        texts: Mapping[str, Text],
        before: EditStep,
        takes: tuple[bool, bool],
        watched: Collection[int],
        mean_maps: Frames | None,
    ):
        self.unet, self.schedule, self.plan, self.texts = unet, schedule, plan, texts
        self.before, self.takes, self.watched, self._table = before, takes, watched, inversion.table
        self.after = EditStep(step=before.step + 1, latents=None)
        self.blends_latents = plan.blends_latents(self.after.step, schedule.steps)
        call = schedule.steps - 1 - self.after.step
        # What the inversion's call at this timestep started from; also of the noise level that the edit comes down to.
        self.inverted = inversion.latents[call] if any(takes) or self.blends_latents else None
        self.maps = inversion.maps[call] if plan.blend and mean_maps is None else mean_maps

    def run(self, part: Tensor, call: Call, source_call: Call) -> None:
        """Take the frames `part` through the step, with `source_call` before where nothing is left of the source."""
        plan, schedule, device = self.plan, self.schedule, self.unet.device
        timestep = schedule.timesteps[self.after.step]
        x = self.before.latents[part].to(device)
        inverted = None if self.inverted is None else self.inverted[part].to(device)
        maps = None if self.maps is None else self.maps[part].to(device)
        if any(self.takes) and not call.source:
            source_call.leaves = Source(*self.takes)
            call.source = self.unet.leave(inverted, timestep, self.texts[SOURCE], source_call)
        sums_maps = bool(plan.blend and plan.blend.sums_target_maps)
        sizes = self.unet.sizes(x)
        own = plan.blend.own.of(part) if plan.blend and plan.blend.own else None
        call.mask = attention_mask(self.unet, plan, maps, sizes, own)
        call.gather = TARGET if sums_maps else None
        outputs = self.unet([x] * len(call.rows), timestep, [self.texts[row] for row in call.rows], call)
        noise = [schedule.noise(output, x, timestep) for output in outputs]
        guidance = plan.guidance_at(self.after.step, schedule.steps)
        guided = guide(noise[0] if len(noise) == 2 else None, noise[-1], guidance)
        latents = schedule.denoise(x, guided, timestep)
        after = self.after
        masked = []
        if call.mask and call.inject_self:
            masked.append(call.mask(0).unflatten(1, (1, *x.shape[-2:])))
        if sums_maps:
            summed = call.maps
            if self.before.target_maps is not None:
                summed = self.before.target_maps[part].to(device) + summed
            after.target_maps = self._put(after.target_maps, part, summed)
            if self.blends_latents:
                masks = changing_masks(self.unet, plan, maps, summed, sizes, own=own)
                masked += masks
                latents = torch.where(torch.stack(masks).any(0), latents, inverted)
                whole = after.latent_masks or [None] * len(masks)
                after.latent_masks = [self._put(to, part, mask) for to, mask in zip(whole, masks, strict=True)]
        after.latents = self._put(after.latents, part, latents)
        if plan.blend:
            self._count(part, masked)
        if self.watched:
            self._predict(part, x, noise[-1], timestep)  # guided, early ones would be all glare
        held = call.peak_bytes + (call.source.nbytes if call.source else 0)
        held += 0 if after.target_maps is None else after.target_maps.nbytes
        after.attention_bytes = max(after.attention_bytes, held)

    def _count(self, part: Tensor, masks: list[Tensor]) -> None:
        """Count the places that one of the step's masks has left to the edit."""
        before, latents = self.before.masked, self.before.latents
        if before is None:
            counts = torch.zeros(len(part), 1, *latents.shape[-2:], dtype=torch.int16, device=latents.device)
        else:
            counts = before[part]
        if masks:
            counts = counts + torch.stack(masks).any(0).to(counts)
        self.after.masked = self._put(self.after.masked, part, counts)

    def _put(self, whole: MadeFrames | None, part: Tensor, values: Tensor) -> MadeFrames:
        return put(whole, part, values, self._table, len(self.before.latents))

    def _predict(self, part: Tensor, x: Tensor, noise: Tensor, timestep: int) -> None:
        places = {frame: at for at, frame in enumerate(part.tolist()) if frame in self.watched}
        if places:
            at = list(places.values())
            clean = self.schedule.clean(x[at], noise[at], timestep).to(self.before.latents.device)
            self.after.clean |= dict(zip(places, clean))
