"""DDIM (arXiv 2010.02502, equation 12, eta = 0) in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from diffusers import DDIMScheduler
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class Schedule:
    """`timesteps` t_0 > t_1 > ... > t_{N-1} with 'leading' spacing, and the cumulative alphas of the checkpoint."""

    timesteps: tuple[int, ...]
    spacing: int
    alphas: Tensor
    """(T,): cumulative products of 1 - beta."""
    final_alpha: float
    """The cumulative alpha that stands for timesteps below 0."""
    prediction_type: str

    @classmethod
    def from_config(cls, config: Mapping, steps: int) -> Schedule:
        """The schedule of a checkpoint's `scheduler_config.json`, whatever sampler that file names.

        Raises ValueError where the checkpoint predicts neither noise nor velocity, or has fewer timesteps than `steps`.
        """
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"the scheduler predicts '{prediction_type}', not one of {', '.join(PREDICTION_TYPES)}")
        scheduler = DDIMScheduler(
            **{name: config[name] for name in _BETA_SETTINGS if name in config}, clip_sample=False
        )
        total = scheduler.config.num_train_timesteps
        offset = config.get("steps_offset", 0)
        if not 1 <= steps <= total - offset:
            raise ValueError(f"{steps} steps were asked for; the checkpoint allows 1 to {total - offset}")
        spacing = total // steps
        if config.get("rescale_betas_zero_snr"):
            raise ValueError("its noise has no signal left at the last timestep, where no inversion can begin")
        return cls(
            timesteps=tuple(spacing * k + offset for k in reversed(range(steps))),
            spacing=spacing,
            alphas=scheduler.alphas_cumprod,
            final_alpha=float(scheduler.final_alpha_cumprod),
            prediction_type=prediction_type,
        )

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    def alpha(self, timestep: int) -> float:
        return float(self.alphas[timestep]) if timestep >= 0 else self.final_alpha

    def noise(self, output: Tensor, x: Tensor, timestep: int) -> Tensor:
        """The noise that the UNet's `output` at `x` means, in float32; velocity as in arXiv 2202.00512, appendix D."""
        output = output.float()
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timestep)
        return sqrt(alpha) * output + sqrt(1 - alpha) * x.float()

    def noised(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """`clean` with as much `noise` as a picture has at `timestep`."""
        alpha = self.alpha(timestep)
        return sqrt(alpha) * clean + sqrt(1 - alpha) * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """What a UNet that knows both would put out for `noised`: the noise, or the velocity."""
        if self.prediction_type == "epsilon":
            return noise
        alpha = self.alpha(timestep)
        return sqrt(alpha) * noise - sqrt(1 - alpha) * clean

    def denoise(self, x: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """One sampling step, from `timestep` to the next lower one."""
        return _move(x, noise, self.alpha(timestep), self.alpha(timestep - self.spacing))

    def clean(self, x: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """The clean latents that `x` at `timestep` would be of, were `noise` all of its noise (equation 9)."""
        return _move(x, noise, self.alpha(timestep), 1.0)

    def add_noise(self, x: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """One inversion step, up to `timestep` from the next lower one: `denoise` run backwards."""
        return _move(x, noise, self.alpha(timestep - self.spacing), self.alpha(timestep))


_BETA_SETTINGS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "set_alpha_to_one",
    "prediction_type",
)


def _move(x: Tensor, noise: Tensor, alpha_from: float, alpha_to: float) -> Tensor:
    clean = (x - sqrt(1 - alpha_from) * noise) / sqrt(alpha_from)
    return sqrt(alpha_to) * clean + sqrt(1 - alpha_to) * noise


def guide(empty: Tensor | None, conditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598); without the `empty` row there is none."""
    return conditional if empty is None else torch.lerp(empty, conditional, guidance)
