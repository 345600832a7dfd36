"""FateZero, and the engine with parts of it switched off: what the method's claims are claims against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
import torch
from PIL import Image

from engine.editing import Editor
from engine.fatezero.method import Inversion
from protocol.settings import BUILTIN_MODEL, EditSettings, Window, apply_preset

from .inside import Inside
from .pairs import Pair

METHOD = "FateZero"
PRESETS = {
    "attribute": "attribute",
    "background": "attribute",
    "style": "style",
    "object": "shape",
    "one_of_two": "attribute",
}
"""The preset that a user would choose for each kind of edit."""
_NO_STEP = Window(0.0, 0.0)
_SEED = 5


Changes = Callable[[EditSettings], dict]


def always(**values) -> Changes:
    """These settings, whatever the others are."""
    return partial(_always, values)


def _always(values: dict, settings: EditSettings) -> dict:
    return values


def _as_it_is(settings: EditSettings) -> dict:
    return {}


@dataclass(frozen=True)
class Strategy:
    """A way to make an edit: the method's settings changed, or (``run``) other use of the engine's parts."""

    name: str
    changes: Changes = _as_it_is
    run: Callable[[Inside], np.ndarray] | None = None

    def settings(self, pair: Pair, steps: int, model: str = BUILTIN_MODEL) -> EditSettings:
        """Of this strategy for a pair, on top of the model's presets."""
        source, target = pair.prompts
        words = (pair.word,) if pair.word and self.name == METHOD else ()
        settings = apply_preset(PRESETS[pair.kind], source, target, steps=steps, model=model, mask_words=words)
        return msgspec.structs.replace(settings, **self.changes(settings))

    def edit(self, editor: Editor, frames: np.ndarray, settings: EditSettings) -> tuple[np.ndarray, np.ndarray | None]:
        """The edited clip, and the mask (F, H, W) uint8 that the preview shows where the settings ask for a word's."""
        if self.run:
            return self.run(Inside(editor, frames, settings)), None
        result = editor.edit(frames, settings)
        shown = [mask for which, mask in result.soft_masks.items() if which.kind == "word"]
        return result.frames, _enlarged(shown[0], (frames.shape[2], frames.shape[1])) if shown else None


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A soft mask (F, h, w) uint8 as the preview draws it over frames of `size` (width, height): interpolated."""
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)) for frame in mask])


def sdedit(strength: float, inside: Inside) -> np.ndarray:
    """SDEdit (arXiv 2108.01073): noise, the same in every frame, up to ``strength`` of the steps; then the prompt."""
    steps = round(strength * inside.schedule.steps)
    schedule = replace(inside.schedule, timesteps=inside.schedule.timesteps[-steps:])
    alpha = schedule.alpha(schedule.timesteps[0])
    noise = torch.randn(inside.latents[:1].shape, generator=torch.Generator().manual_seed(_SEED))
    noisy = alpha**0.5 * inside.latents + (1 - alpha) ** 0.5 * noise
    start = Inversion(latents=[noisy] * (steps + 1), maps=[])
    return inside.frames(inside.edit(start, inside.plain_plan(), schedule)[-1])


def reconstruction_attention(inside: Inside) -> np.ndarray:
    """As Prompt-to-Prompt does: the injected attention is that of the source generated anew from its inverted noise,
    with the same guidance, in place of the inversion's own."""
    inverted = inside.inversion
    generated = inside.edit(inverted, replace(inside.plain_plan(), target=inside.plan.source))
    # The editing loop reads, at its step j, the entry that the inversion's call at the same timestep started from.
    before = [inverted.latents[-1], *generated[:-1]]
    taken = Inversion(latents=[*reversed(before), inverted.latents[-1]], maps=inverted.maps)
    return inside.frames(inside.edit(taken, inside.plan)[-1])


_NO_BLEND = dict(blend_source=(), blend_target=(), blend_latents=False, keep_background=False)
BASELINES = (
    *(Strategy(f"SDEdit {strength}", run=partial(sdedit, strength)) for strength in (0.4, 0.6, 0.8)),
    Strategy(
        "DDIM inversion, plain guidance",
        always(cross_window=_NO_STEP, self_window=_NO_STEP, word_weights={}, **_NO_BLEND),
    ),
    Strategy("attention from reconstruction", run=reconstruction_attention),
    Strategy("no blend mask", always(**_NO_BLEND)),
    Strategy("per-frame attention", always(keys=("0",))),
)
