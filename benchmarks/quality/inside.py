"""An edit with its parts laid open, for baselines that leave some of them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from engine.editing import Editor
from engine.fatezero.masks import blend_mask
from engine.fatezero.method import EditPlan, EditStep, Inversion, edit, invert
from engine.fatezero.schedule import Schedule
from engine.models.text import read_prompt
from engine.plans import edit_plan, temporal_settings
from protocol.settings import EditSettings

NO_STEP = (0.0, 0.0)


class Inside:
    """The engine's parts for one clip (F, H, W, 3) uint8 and one set of settings."""

    def __init__(self, editor: Editor, frames: np.ndarray, settings: EditSettings):
        checkpoint = editor.checkpoint
        self.editor, self.unet, self.settings = editor, editor.unet, settings
        self.schedule = Schedule.from_config(checkpoint.scheduler_config, settings.steps)
        source, target = (read_prompt(checkpoint, text) for text in (settings.source, settings.target))
        self.plan = edit_plan(settings, source, target)
        prompts = {"source": source, "empty": read_prompt(checkpoint, ""), "target": target}
        self.embeddings = {name: editor.embedding(prompt) for name, prompt in prompts.items()}
        self.temporal = temporal_settings(checkpoint.profile, settings)
        self.geometry = editor.geometry(frames)
        self.latents = editor.encode(self.geometry.to_model(frames))

    @cached_property
    def inversion(self) -> Inversion:
        """The source's, whole."""
        start = Inversion(latents=[self.latents])
        loop = invert(self.unet, self.schedule, start, self.plan.source, self.embeddings["source"], self.temporal)
        *_, whole = loop
        return whole

    def edit(self, inversion: Inversion, plan: EditPlan, schedule: Schedule | None = None) -> list[torch.Tensor]:
        """The latents (F, 4, h, w) after each step of the editing loop."""
        return [state.latents for state in self._loop(inversion, plan, schedule=schedule)]

    def step(self, plan: EditPlan, before: EditStep | None = None) -> EditStep:
        """The step of the editing loop that comes after `before`, or the first: plans may differ from step to step."""
        return next(self._loop(self.inversion, plan, before))

    def _loop(
        self,
        inversion: Inversion,
        plan: EditPlan,
        resume: EditStep | None = None,
        schedule: Schedule | None = None,
    ) -> Iterator[EditStep]:
        embeddings = self.embeddings
        if plan.target == plan.source:
            embeddings = embeddings | {"target": embeddings["source"]}
        return edit(self.unet, schedule or self.schedule, inversion, plan, embeddings, self.temporal, resume)

    def plain_plan(self) -> EditPlan:
        """Guided denoising under the target prompt with nothing injected."""
        return replace(
            self.plan, cross_window=NO_STEP, word_windows={}, self_window=NO_STEP, word_weights={}, blend=None
        )

    def frames(self, latents: torch.Tensor) -> np.ndarray:
        """Latents as a clip."""
        return self.geometry.to_frames(self.editor.decode(latents))

    def mask_ratio(self, word: str, truth: np.ndarray) -> float:
        """IoU of the paper's blend mask of ``word`` with its place (F, H, W) bool, mean over steps, as a share of what
        the true place put through the same grid, pooling and threshold reaches."""
        sizes = self.unet.sizes(self.latents)
        grid, size = sizes[self.unet.profile.mask_level], truth.shape[1:]
        tokens, threshold = self.plan.source.positions([word]), 0.3  # the paper's, whatever this edit has
        places = torch.from_numpy(truth)
        shares = torch.nn.functional.adaptive_avg_pool2d(places[:, None].float(), grid)
        best = blend_mask(shares.flatten(2).transpose(1, 2), [0], grid, size, threshold)
        reached = [_iou(blend_mask(maps, tokens, grid, size, threshold)[:, 0], places) for maps in self.inversion.maps]
        return float(np.mean(reached)) / _iou(best[:, 0], places)


def _iou(mask: torch.Tensor, other: torch.Tensor) -> float:
    return float((mask & other).sum() / (mask | other).sum().clamp(min=1))
