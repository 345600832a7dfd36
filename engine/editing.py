"""An edit from frames to frames: what the command line, the worker and the tests all call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protocol.models import Model
from protocol.settings import EditSettings, SettingsError, check

from .devices import choose_device, choose_dtype, free_memory
from .errors import EditError
from .fatezero.masks import soft_mask
from .fatezero.method import Blend, EditPlan, Inversion, TemporalSettings, edit, invert
from .fatezero.profile import Profile
from .fatezero.prompts import Prompt, can_replace
from .fatezero.schedule import Schedule
from .fatezero.unet import FateZeroUNet
from .geometry import Geometry
from .models.checkpoint import Checkpoint, load
from .models.text import embed, read_prompt

__all__ = ["EditError", "EditResult", "Editor", "Progress", "ReportProgress"]

PIXELS_AT_ONCE = 512 * 512
"""Of all the frames that the autoencoder takes together: it runs in float32, and needs most memory of all parts."""


@dataclass(frozen=True)
class Progress:
    """How far an edit has come; `stage` is one of `encode`, `invert`, `edit`, `decode`."""

    stage: str
    step: int
    steps: int
    fraction: float
    """Of the whole edit, 0 to 1, by the stages' cost."""


ReportProgress = Callable[[Progress], None]
"""Called between denoising steps; an exception raised in it ends the edit there (that is how a job is cancelled)."""


@dataclass(frozen=True)
class EditResult:
    """`frames`: (F, H, W, 3 or 4) uint8 like the source's; `masks`: word -> (F, H, W) uint8; `notes`: sentences for the user."""

    frames: np.ndarray
    masks: dict[str, np.ndarray]
    notes: list[str]


class Editor:
    """A checkpoint on a device, ready to edit clips."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.unet = FateZeroUNet(checkpoint.unet, checkpoint.profile)

    @classmethod
    def load(cls, model: str | Model, device: str = "auto", precision: str = "auto") -> Editor:
        """Load a model, `builtin` or a checkpoint's path; EditError says what is wrong with it and what would do."""
        place = choose_device(device)
        return cls(load(model, place, choose_dtype(precision, place)))

    def edit(self, frames: np.ndarray, settings: EditSettings, report: ReportProgress = lambda _: None) -> EditResult:
        """Edit `frames` (F, H, W, 3 or 4) uint8; alpha comes back as it was. EditError for anything that cannot be done."""
        try:
            check(settings)
            schedule = Schedule.from_config(self.checkpoint.scheduler_config, settings.steps)
        except SettingsError as error:
            raise EditError("settings", str(error)) from error
        except ValueError as error:
            raise EditError("settings", f"This checkpoint cannot be sampled so: {error}.") from error
        prompts = {
            "source": read_prompt(self.checkpoint, settings.source),
            "empty": read_prompt(self.checkpoint, ""),
            "target": read_prompt(self.checkpoint, settings.target),
        }
        check_words(settings, prompts["source"], prompts["target"])
        plan = edit_plan(settings, prompts["source"], prompts["target"])
        rgb = frames[..., :3]
        geometry = self.geometry(frames)
        self._check_memory(len(frames), geometry)
        try:
            result, masks = self._run(rgb, settings, schedule, plan, prompts, geometry, report)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):  # a CPU says it in words
                raise
            raise EditError(
                "memory", f"{len(frames)} frames did not fit in the device's memory.", "Edit a shorter range."
            ) from error
        notes = notes_on(plan) + notes_on_profile(self.checkpoint.profile, settings)
        return EditResult(np.concatenate([result, frames[..., 3:]], axis=-1), masks, notes)

    def autoencode(self, frames: np.ndarray) -> np.ndarray:
        """(F, H, W, 3) uint8 through the autoencoder and back: the best that any edit can keep of them."""
        geometry = self.geometry(frames)
        return np.concatenate(
            [
                geometry.to_frames(self._decode(self._encode(geometry.to_model(frames[chunk]))))
                for chunk in _chunks(len(frames), geometry)
            ]
        )

    def geometry(self, frames: np.ndarray) -> Geometry:
        """How frames of this size are shown to the model."""
        if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or frames.dtype != np.uint8 or not len(frames):
            raise EditError("frames", "A clip must be at least one RGB or RGBA frame of 8 bits a channel.")
        _, height, width, _ = frames.shape
        step = self.checkpoint.factor * 2 ** (self.unet.levels - 1)
        return Geometry.fit(width, height, self.checkpoint.image_side**2, step)

    def _run(
        self,
        rgb: np.ndarray,
        settings: EditSettings,
        schedule: Schedule,
        plan: EditPlan,
        prompts: dict[str, Prompt],
        geometry: Geometry,
        report: ReportProgress,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        steps = schedule.steps
        ticker = _Ticker(report, {"encode": 1.0, "invert": steps, "edit": 3.0 * steps, "decode": 2.0})
        temporal = temporal_settings(self.checkpoint.profile, settings)
        embeddings = {name: embed(self.checkpoint, prompt) for name, prompt in prompts.items()}
        chunks = _chunks(len(rgb), geometry)
        encoded = [self._encode(geometry.to_model(rgb[chunk])) for chunk in ticker.over("encode", chunks)]
        loop = invert(self.unet, schedule, torch.cat(encoded), prompts["source"], embeddings["source"], temporal)
        for inversion in ticker.over("invert", loop, steps):
            pass
        for state in ticker.over("edit", edit(self.unet, schedule, inversion, plan, embeddings, temporal), steps):
            pass
        decoded = [geometry.to_frames(self._decode(state.latents[chunk])) for chunk in ticker.over("decode", chunks)]
        return np.concatenate(decoded), self.word_masks(settings.mask_words, prompts["source"], inversion, geometry)

    def word_masks(
        self, words: Iterable[str], source: Prompt, inversion: Inversion, geometry: Geometry
    ) -> dict[str, np.ndarray]:
        """For each word (F, H, W) uint8: where the source's cross-attention sees it, mean over all steps.

        255 is each frame's strongest place.
        """
        grid = self.unet.sizes(inversion.latents[0])[self.unet.profile.mask_level]
        mean = sum(inversion.maps) / inversion.steps
        return {word: geometry.to_masks(soft_mask(mean, source.positions([word]), grid, grid)[:, 0]) for word in words}

    @torch.no_grad()
    def _encode(self, pictures: Tensor) -> Tensor:
        """(F, 3, H, W) to scaled latents (F, 4, h, w): the autoencoder's mean, so that results repeat."""
        vae = self.checkpoint.vae
        mean = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist.mean
        return mean.float() * vae.config.scaling_factor

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Tensor:
        vae = self.checkpoint.vae
        return vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample

    def _check_memory(self, frames: int, geometry: Geometry) -> None:
        """Refuse a clip that would not fit, naming the range that would."""
        each = bytes_per_frame(self.checkpoint, geometry)
        free = free_memory(self.unet.device)
        fitting = int(free * 0.9 // each)
        if frames <= fitting:
            return
        wanted, there = frames * each / 2**30, free / 2**30
        sentence = f"{frames} frames at {geometry.padded[0]} x {geometry.padded[1]} need about {wanted:.1f} GiB of memory, and {there:.1f} GiB are free."
        remedy = (
            f"Edit at most {fitting} frames at a time, for example the first {fitting}."
            if fitting
            else "Close other programs, or use a smaller checkpoint."
        )
        raise EditError("memory", sentence, remedy)


def _chunks(frames: int, geometry: Geometry) -> list[slice]:
    """All frames, in parts that the autoencoder can take at once."""
    size = max(1, PIXELS_AT_ONCE // (geometry.padded[0] * geometry.padded[1]))
    return [slice(start, start + size) for start in range(0, frames, size)]


ACTIVATIONS = 36
"""Feature maps of the first level's width that a UNet holds at its fullest moment, for each row of each frame."""


def bytes_per_frame(checkpoint: Checkpoint, geometry: Geometry) -> int:
    """Memory that each frame of a clip takes while all three rows run, an estimate from above."""
    width, height = (side // checkpoint.factor for side in geometry.padded)
    item = checkpoint.unet.dtype.itemsize
    return 3 * ACTIVATIONS * checkpoint.unet.config.block_out_channels[0] * width * height * item


def edit_plan(settings: EditSettings, source: Prompt, target: Prompt) -> EditPlan:
    """The settings in the method's terms."""
    blend = None
    if settings.blend_source:
        blend = Blend(
            source_words=settings.blend_source,
            target_words=settings.blend_target,
            threshold=settings.blend_threshold,
            latents=settings.blend_latents,
        )
    return EditPlan(
        source=source,
        target=target,
        guidance=settings.guidance,
        replace=settings.cross_mode == "replace",
        cross_window=_pair(settings.cross_window),
        word_windows={word: _pair(window) for word, window in settings.word_windows.items()},
        word_weights=settings.word_weights,
        self_window=_pair(settings.self_window),
        blend=blend,
    )


def check_words(settings: EditSettings, source: Prompt, target: Prompt) -> None:
    """Refuse settings for words that lie beyond what the model takes of a prompt: it would never see them."""
    for role, prompt, words in (
        ("source", source, (*settings.blend_source, *settings.mask_words)),
        ("target", target, (*settings.blend_target, *settings.word_weights, *settings.word_windows)),
    ):
        for word in words:
            if not prompt.positions([word]):
                raise EditError(
                    "settings",
                    f"The {role} prompt is longer than the model takes, and '{word}' is beyond the cut.",
                    "Shorten the prompt, or name another word.",
                )


def notes_on(plan: EditPlan) -> list[str]:
    """What was done otherwise than asked, a sentence each."""
    notes = [
        f"The {role} prompt is longer than the model takes; these words were cut: {' '.join(prompt.cut)}."
        for role, prompt in (("source", plan.source), ("target", plan.target))
        if prompt.cut
    ]
    if plan.replace and not can_replace(plan.source, plan.target):
        notes.append(
            f"The prompts have {len(plan.source.words)} and {len(plan.target.words)} words, so that words could not "
            "be replaced one for one; the prompts were aligned (refine) instead."
        )
    return notes


class _Ticker:
    """Reports progress over stages of different cost."""

    def __init__(self, report: ReportProgress, costs: dict[str, float]):
        self.report, self.costs, self.total, self.before = report, costs, sum(costs.values()), 0.0

    def over(self, stage: str, items: Iterable, count: int | None = None):
        count = len(items) if count is None else count
        self._say(stage, 0, count)
        for done, item in enumerate(items, 1):
            yield item
            self._say(stage, done, count)
        self.before += self.costs[stage]

    def _say(self, stage: str, step: int, steps: int) -> None:
        fraction = (self.before + self.costs[stage] * step / steps) / self.total
        self.report(Progress(stage, step, steps, fraction))


def _pair(window) -> tuple[float, float]:
    return window.start, window.end


def temporal_settings(profile: Profile, settings: EditSettings) -> TemporalSettings:
    """How frames see each other: as the checkpoint was trained, where that is a fact of it, else as the settings say."""
    return TemporalSettings(
        keys=settings.keys if profile.keys is None else profile.keys,
        pooled_norm=settings.normalization == "clip" if profile.pooled_norm is None else profile.pooled_norm,
    )


def notes_on_profile(profile: Profile, settings: EditSettings) -> list[str]:
    """What was done otherwise than asked because of the checkpoint, a sentence each."""
    asked, used = temporal_settings(Profile(), settings), temporal_settings(profile, settings)
    if asked == used:
        return []
    over = {True: "clip", False: "frame"}
    note = (
        f"This checkpoint was tuned on video with keys from {' and '.join(used.keys)} and normalisation over the "
        f"{over[used.pooled_norm]}, so these were used, not {' and '.join(asked.keys)} and {over[asked.pooled_norm]}."
    )
    return [note]
