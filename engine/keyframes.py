"""Keyframes: the model edits every k-th frame of a clip, and what it changes is carried along the motion to the others.

A frame between two keyframes takes from each what lies where its own places have moved to there: the change (edited minus
source), which is added to its own source, so that its detail stays sharp. The nearer keyframe counts more, and so does
the one whose motion can be trusted more, at each place and, as after a cut, in the whole frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from .fatezero.keys import shots_between
from .motion import Between, resized, warped
from .steady import to_levels

LEAST = 1e-4
"""Trust that is left to a place for which nothing speaks: one of two such guesses must be taken."""

T = TypeVar("T")


def keyframes(frames: int, step: int, cuts: Sequence[int] = ()) -> list[int]:
    """The numbers of those of so many frames that the model edits: every `step`-th of each shot, and its last.

    `cuts`: the frames, ascending, with which the second shot begins and all later ones. So no frame lies between
    keyframes of two shots.
    """
    shots = shots_between(cuts, frames)
    return sorted({frame for first, end in shots for frame in (*range(first, end, step), end - 1)})


class Chosen(Generic[T]):
    """Some frames of a clip, or of its masks, as one."""

    def __init__(self, whole: T, frames: Sequence[int]):
        self._whole, self.frames = whole, list(frames)
        """Their numbers in the whole clip."""
        self.shape = len(self.frames), *whole.shape[1:]

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self._whole.digest} {self.frames}".encode()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        chosen = self.frames[part] if isinstance(part, slice) else [self.frames[index] for index in part]
        return self._whole[chosen]


@dataclass(frozen=True)
class Edited:
    """A frame of the result: its `number`, its picture (h, w, 3) uint8 in the model's size, and masks (H, W) uint8 of
    any sizes."""

    number: int
    levels: np.ndarray
    masks: dict[object, np.ndarray]


class Filling:
    """Takes the edited keyframes in their order, and gives all frames in theirs."""

    def __init__(self, source: Callable[[int], np.ndarray], crop: Callable[[np.ndarray], np.ndarray]):
        """`source` gives the clip's own frame of a number, (h, w, 3) uint8 in the model's size; of such a picture `crop`
        takes what the masks lie over."""
        self._source, self._crop = source, crop
        self._before: Edited | None = None

    def until(self, after: Edited) -> Iterator[Edited]:
        """The frames between the keyframe that was taken before and this one, and this one."""
        before = self._before
        if before is not None and after.number - before.number > 1:
            ends = self._source(before.number), self._source(after.number)
            for number in range(before.number + 1, after.number):
                yield self._between(number, before, after, *ends)
        self._before = after
        yield after

    def _between(
        self, number: int, before: Edited, after: Edited, source_before: np.ndarray, source_after: np.ndarray
    ) -> Edited:
        own = self._source(number)
        share = (number - before.number) / (after.number - before.number)
        takes = []
        for keyframe, its_source, part in ((before, source_before, 1 - share), (after, source_after, share)):
            motion = Between(own, its_source)
            trust = motion.trust * motion.trust.mean() ** 2
            takes.append((keyframe, its_source, motion.there, np.float32(part) * (trust + np.float32(LEAST))))
        total = sum(weight for *_, weight in takes)
        levels, masks = own.astype(np.float32), {}
        for keyframe, its_source, way, weight in takes:
            change = keyframe.levels.astype(np.float32) - its_source
            levels += (weight / total)[..., None] * warped(change, way)
        for name, mask in before.masks.items():
            parts = (
                resized(self._crop(weight / total), mask.shape)
                * warped(keyframe.masks[name].astype(np.float32), resized(self._crop(way), mask.shape))
                for keyframe, _, way, weight in takes
            )
            masks[name] = to_levels(sum(parts))
        return Edited(number, to_levels(levels), masks)
