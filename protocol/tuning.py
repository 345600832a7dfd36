"""What a tuning is asked to make: a model for one clip, from an image model, the clip and its prompt."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from .settings import BUILTIN_MODEL, EditSettings, SettingsError

MAX_TUNING_STEPS = 100_000
MAX_RATE = 0.1


class Tuning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tuning makes, beside what its settings say (Tune-A-Video, arXiv 2212.11565, section 3)."""

    name: str
    """Of the model that it makes: up to 80 letters, digits, dots, hyphens and underscores, and no other model's name."""
    steps: int = 500
    """Of training, each on all frames at one random timestep."""
    rate: float = 3e-5
    """The optimiser's step size."""


class Usual(NamedTuple):
    """How a model is tuned where nobody says otherwise."""

    steps: int
    rate: float


def usual(model: str) -> Usual:
    """For the model of that name: the built-in one is small, and is tuned in another way (`docs/quality.md`)."""
    if model == BUILTIN_MODEL:
        return Usual(steps=8, rate=1e-3)
    plain = Tuning(name="")
    return Usual(plain.steps, plain.rate)


def for_tuning(settings: EditSettings) -> EditSettings:
    """What of these settings counts where a model is tuned: the clip's own prompt, and the model to begin with."""
    return EditSettings(source=settings.source, target=settings.source, preset="reconstruct", model=settings.model)


def check(tuning: Tuning) -> None:
    """Raise `SettingsError` for the first number that is out of range."""
    if not 1 <= tuning.steps <= MAX_TUNING_STEPS:
        raise SettingsError(f"tuning steps is {tuning.steps}; it must lie between 1 and {MAX_TUNING_STEPS}.")
    if not 0 < tuning.rate <= MAX_RATE:
        raise SettingsError(f"tuning rate is {tuning.rate:g}; it must lie above 0, and be at most {MAX_RATE:g}.")
