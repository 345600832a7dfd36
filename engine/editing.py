"""An edit from frames to frames: what the command line, the worker and the tests all call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Progress:
    """How far an edit has come; `stage` is one of `load`, `encode`, `invert`, `edit`, `decode`."""

    stage: str
    step: int
    steps: int
    fraction: float
    """Of the whole edit, 0 to 1, by measured cost of the stages."""


@dataclass(frozen=True)
class EditResult:
    """`frames`: (F, H, W, 3 or 4) uint8 like the source's; `masks`: word -> (F, H, W) uint8; `notes`: sentences for the user."""

    frames: np.ndarray
    masks: dict[str, np.ndarray]
    notes: list[str]


class EditError(Exception):
    """An edit that cannot be made: `code` for programs, `sentence` and `remedy` for people."""

    def __init__(self, code: str, sentence: str, remedy: str = ""):
        super().__init__(f"{sentence} {remedy}".strip())
        self.code, self.sentence, self.remedy = code, sentence, remedy


ReportProgress = Callable[[Progress], None]
"""Called between denoising steps; an exception raised in it ends the edit there (that is how a job is cancelled)."""
