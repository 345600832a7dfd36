"""A long clip in parts for several workers, none of which needs another (section 3.4); no torch, so that a server may ask.

With keys from fixed anchor frames and normalisation of each frame, frames meet in the anchors only. So a worker that
takes a part of the clip computes the anchors with it, and at most a few frames more: every call of the UNet shall take
as many frames as it would of the whole clip, for kernels for other numbers of frames differ in last bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from protocol.settings import EditSettings

from .fatezero.keys import FIXED_KEYS, fixed_frames

FRAMES_AT_ONCE = 8
"""In one call of the UNet at most. More would keep no device busier, but take more memory the longer the clip is, and
longer until a cancel is heard."""
LEAST = 16
"""Frames of a part: below that, loading and the anchors cost more than another worker saves."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The frames from `first` to before `end` of a clip."""

    first: int
    end: int

    @property
    def count(self) -> int:
        """Frames in it."""
        return self.end - self.first


def can_be_parted(settings: EditSettings) -> bool:
    """Whether frames meet in fixed anchor frames only, as far as the settings decide it; a tuned checkpoint may object.

    What is steadied or filled by motion looks at its neighbours, which another part would edit once more.
    """
    by_itself = not settings.steady and settings.keyframe_step == 1
    return by_itself and settings.normalization == "frame" and all(key in FIXED_KEYS for key in settings.keys)


def cut(settings: EditSettings, frames: int, most: int) -> list[Part]:
    """At most `most` parts of about the same length that make up a clip; one where it is too short or must stay whole."""
    count = min(most, frames // LEAST)
    if count < 2 or not can_be_parted(settings):
        return [Part(0, frames)]
    anchors = _anchors(settings.keys, frames)
    others = [frame for frame in range(frames) if frame not in anchors]
    # Each part but the last computes its own frames and the anchors in full calls, and needs no frames more.
    calls = math.ceil(frames / count / FRAMES_AT_ONCE)
    own = calls * FRAMES_AT_ONCE - len(anchors)
    starts = [0, *(others[index] for index in range(own, len(others), own))]
    if len(starts) > 1 and frames - starts[-1] < FRAMES_AT_ONCE:  # the last few go with the part before
        starts.pop()
    return [Part(first, end) for first, end in zip(starts, [*starts[1:], frames])]


def computed(part: Part, frames: int, keys: Sequence[str]) -> list[int]:
    """The frames that are computed for a part of a clip of so many, in order.

    Its own, the anchors, and the neighbours that make its calls those of the whole clip: full ones, but for the last
    one of the clip.
    """
    chosen = {*range(part.first, part.end), *_anchors(keys, frames)}
    short = frames % FRAMES_AT_ONCE if part.end == frames else 0
    beside = iter([*range(part.first - 1, -1, -1), *range(part.end, frames)])
    while len(chosen) % FRAMES_AT_ONCE != short and len(chosen) < frames:
        chosen.add(next(beside))
    return sorted(chosen)


def _anchors(keys: Sequence[str], frames: int) -> set[int]:
    places = dict(zip(FIXED_KEYS, fixed_frames(frames)))
    return {places[key] for key in keys if key in places}
