"""Steadier edits: what an edit changes, averaged along the motion of the clip's own frames.

Each frame is edited nearly by itself, so what is new in it flickers a little, and so does what the autoencoder loses.
The clip's own frames say where each place lies in the frames around it. There the changes (edited minus source) are
averaged, as far as the motion can be trusted, and added to the frame's own source again: its detail stays sharp, and
what is hidden in a neighbour takes nothing from there. Nor does what is changed quite otherwise there: a new shape does
not move as the old one did, and would be torn. That is done twice: two short averages see as far as a long one,
by motion between frames that are nearer, which is surer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .motion import Between, opencv, warped
from .parts import STEADY_PASSES

LEAST = 0.01
"""Trust below which a place takes nothing from the other frame."""
AGREEMENT = 60.0
"""Levels by which two frames' changes may differ and still be flicker; at these the other one counts 0.37 times as much."""


@dataclass
class _Frame:
    """One that waits for its neighbours: pictures (h, w, 3), and weights (h, w)."""

    number: int
    source: np.ndarray
    change: np.ndarray
    sums: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, number: int, picture: np.ndarray, source: np.ndarray) -> _Frame:
        change = picture.astype(np.float32) - source
        return cls(number, source, change, change.copy(), np.ones(source.shape[:2], np.float32))

    def take(self, other: _Frame, way: np.ndarray, trust: np.ndarray) -> None:
        """Add what `other` has where `way` leads."""
        change = warped(other.change, way)
        trust = np.where(trust < LEAST, np.float32(0), trust) * _agreement(self.change, change)
        self.sums += trust[..., None] * change
        self.weights += trust

    def averaged(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Its number, the source with the averaged change, and the source."""
        return self.number, self.source + self.sums / self.weights[..., None], self.source


def steadied(
    edited: Iterable[tuple[int, np.ndarray]],
    source: Callable[[int], np.ndarray],
    beside: int,
    cuts: Sequence[int] = (),
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames in their order, each with its number and (h, w, 3) uint8, averaged with `beside` frames on either side.

    `source` gives the clip's own frame of a number, alike; it is asked once for each. `beside` frames and one are held at
    a time, for each pass. The first and the last frames have fewer neighbours, and so have those beside numbers that are
    left out. `cuts`: the numbers, ascending, with which a new shot begins, which has no neighbours before.
    """
    frames = ((number, picture, source(number)) for number, picture in edited)
    for _ in range(STEADY_PASSES):
        frames = _averaged(frames, beside, cuts)
    for number, values, _ in frames:
        yield number, to_levels(values)


def _agreement(change: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w), 0 to 1: how far two changes (h, w, 3) of the same thing are alike, around each place."""
    apart = opencv().blur(np.abs(change - other).max(-1), (3, 3))
    return np.exp(-((apart / AGREEMENT) ** 2))


def to_levels(values: np.ndarray) -> np.ndarray:
    """Any values as 8-bit levels."""
    return values.round().clip(0, 255).astype(np.uint8)


def _averaged(
    frames: Iterable[tuple[int, np.ndarray, np.ndarray]], beside: int, cuts: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    waiting: deque[_Frame] = deque()
    for frame in frames:
        new = _Frame.of(*frame)
        first = new.number - beside
        if begun := bisect_right(cuts, new.number):
            first = max(first, cuts[begun - 1])
        while waiting and waiting[0].number < first:
            yield waiting.popleft().averaged()
        for before in waiting:
            motion = Between(before.source, new.source)
            before.take(new, motion.there, motion.trust)
            new.take(before, motion.back, motion.trust_back)
        waiting.append(new)
    while waiting:
        yield waiting.popleft().averaged()
