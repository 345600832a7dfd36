"""Which frames give spatial-temporal self-attention its keys and values (section 3.2); no torch, so that a server may ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FIXED_KEYS = ("first", "mid", "last")


def fixed_frames(frames: int) -> tuple[int, int, int]:
    """Where the frames of `FIXED_KEYS` lie in a clip of so many."""
    return 0, (frames - 1) // 2, frames - 1


def middle_frame(frames: int) -> int:
    """Of a clip of so many."""
    return fixed_frames(frames)[FIXED_KEYS.index("mid")]


def key_frames(
    keys: Sequence[str], frames: int, fixed: tuple[int, int, int] | None = None, cuts: Sequence[int] = ()
) -> list[list[int]]:
    """For each of `keys` the frame that serves each frame: `first`, `mid`, `last`, or an offset clamped to the clip.

    `fixed`: where the first three lie, if not where a whole clip of so many frames has them. `cuts`: the frames,
    ascending, with which the second shot begins and all later ones: each shot is served as a clip of its own.
    """
    if cuts:
        shots = [(first, key_frames(keys, end - first)) for first, end in shots_between(cuts, frames)]
        return [[first + frame for first, its in shots for frame in its[place]] for place in range(len(keys))]
    places = dict(zip(FIXED_KEYS, fixed or fixed_frames(frames)))
    return [
        [places[key] if key in places else min(max(frame + int(key), 0), frames - 1) for frame in range(frames)]
        for key in keys
    ]


def shots_between(cuts: Sequence[int], frames: int) -> list[tuple[int, int]]:
    """The first frame of each shot, and the one after its last."""
    return list(zip((0, *cuts), (*cuts, frames)))


class Served(NamedTuple):
    """Which anchors serve a frame of a clip that has several, by their frames' numbers."""

    before: int
    """The anchor at or before the frame; beyond the outermost of a shot that one, on whichever side it lies."""
    after: int
    """The next one of the same shot; where `share` is 0, `before` again."""
    share: float
    """Of attention to `after`, 0 to below 1: how far the frame lies on the way there."""


def several_anchors(key: str, frames: int, cuts: Sequence[int] = (), every: int = 0) -> tuple[Served, ...]:
    """For each frame of a clip the anchors of its shot that serve it.

    `cuts`: the frames, ascending, with which the second shot begins and all later ones. `every`: frames from an anchor
    to the next at most; they stand in the middles of equal stretches of a shot. 0: one anchor a shot, its frame `key` of
    `FIXED_KEYS`.
    """
    served = []
    for first, end in shots_between(cuts, frames):
        count = end - first
        stretches = -(-count // every) if every else 1
        if stretches > 1:
            anchors = [first + ((2 * number + 1) * count - stretches) // (2 * stretches) for number in range(stretches)]
        else:
            anchors = [first + fixed_frames(count)[FIXED_KEYS.index(key)]]
        served += [_between(anchors, frame) for frame in range(first, end)]
    return tuple(served)


def _between(anchors: Sequence[int], frame: int) -> Served:
    after = next((anchor for anchor in anchors if anchor > frame), anchors[-1])
    before = max((anchor for anchor in anchors if anchor <= frame), default=anchors[0])
    if not before <= frame < after:  # beyond the outermost
        return Served(before, before, 0.0)
    share = (frame - before) / (after - before)
    return Served(before, after if share else before, share)
