"""How far an edit has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far an edit has come; `stage` is `read` while cuts are looked for, then `encode`, `invert`, `edit`, `decode`."""

    stage: str
    step: int
    """Denoising steps that are done; of `encode` and `decode` frames."""
    steps: int
    fraction: float
    """Of the whole edit, 0 to 1, by the stages' cost."""


ReportProgress = Callable[[Progress], None]
"""Called between the calls of the UNet and of the autoencoder; an exception raised in it ends the edit there (that is
how a job is cancelled)."""


class Ticker:
    """Reports progress over stages of different cost, given in their order; what is reported never falls."""

    def __init__(self, report: ReportProgress, costs: Mapping[str, float]):
        self._report, self._fraction, self._at = report, 0.0, ("", 0.0)
        total, before = sum(costs.values()), 0.0
        self._spans = {}
        for stage, cost in costs.items():
            self._spans[stage] = before / total, cost / total
            before += cost

    def say(self, stage: str, done: float, steps: int) -> None:
        """`done` of `steps` are done; a part of a step counts in the fraction only."""
        told, at_least = self._at
        done = max(done, at_least) if stage == told else done
        self._at = stage, done
        before, span = self._spans[stage]
        self._fraction = max(self._fraction, before + span * done / steps)
        self._report(Progress(stage, int(done), steps, self._fraction))
