"""Steadier edits: what an edit changes, averaged along the motion of the clip's own frames.

Each frame is edited nearly by itself, so what is new in it flickers a little, and so does what the autoencoder loses.
The clip's own frames say where each place lies in the frames around it. There the changes (edited minus source) are
averaged, as far as the motion can be trusted, and added to the frame's own source again: its detail stays sharp, and
what is hidden in a neighbour takes nothing from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .motion import Between, warped

LEAST = 0.01
"""Trust below which a place takes nothing from the other frame."""


@dataclass
class _Frame:
    """One that waits for its neighbours."""

    number: int
    source: np.ndarray
    change: np.ndarray
    sums: np.ndarray
    weights: np.ndarray

    def take(self, other: _Frame, way: np.ndarray, trust: np.ndarray) -> None:
        """Add what `other` has where `way` leads."""
        trust = np.where(trust < LEAST, np.float32(0), trust)
        self.sums += trust[..., None] * warped(other.change, way)
        self.weights += trust

    def mean(self) -> np.ndarray:
        """(h, w, 3) uint8: the source with the averaged change."""
        return to_levels(self.source + self.sums / self.weights[..., None])


def steadied(
    edited: Iterable[tuple[int, np.ndarray]], source: Callable[[int], np.ndarray], beside: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames in their order, each with its number and (h, w, 3) uint8, averaged with `beside` frames on either side.

    `source` gives the clip's own frame of a number, alike. `beside` frames and one are held at a time. The first and the
    last frames have fewer neighbours, and so have those beside numbers that are left out.
    """
    waiting: deque[_Frame] = deque()
    for number, levels in edited:
        own = source(number)
        change = levels.astype(np.float32) - own
        new = _Frame(number, own, change, change.copy(), np.ones(own.shape[:2], np.float32))
        while waiting and number - waiting[0].number > beside:
            yield _done(waiting)
        for before in waiting:
            motion = Between(before.source, own)
            before.take(new, motion.there, motion.trust)
            new.take(before, motion.back, motion.trust_back)
        waiting.append(new)
    while waiting:
        yield _done(waiting)


def to_levels(values: np.ndarray) -> np.ndarray:
    """Any values as 8-bit levels."""
    return values.round().clip(0, 255).astype(np.uint8)


def _done(waiting: deque[_Frame]) -> tuple[int, np.ndarray]:
    frame = waiting.popleft()
    return frame.number, frame.mean()
