"""A long clip in parts for several workers, none of which needs another (section 3.2); no torch, so that a server may ask.

With keys from fixed anchor frames and normalisation of each frame, frames meet in the anchors only. So a worker that
takes a part of the clip computes the anchors that its frames need with it, and at most a few frames more: every call of the UNet shall take
as many frames as it would of the whole clip, for kernels for other numbers of frames differ in last bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from protocol.settings import EditSettings

from .fatezero.keys import FIXED_KEYS, Served, fixed_frames, middle_frame, several_anchors

FRAMES_AT_ONCE = 8
"""In one call of the UNet at most. More would keep no device busier, but take more memory the longer the clip is, and
longer until a cancel is heard."""
STEADY_PASSES = 2
"""How often changes are averaged (`steady`)."""
LEAST = 16
"""Frames of a part: below that, loading and the anchors cost more than another worker saves."""


def steady_reach(beside: int) -> int:
    """How far the frames that a steadied one depends on lie from it."""
    return STEADY_PASSES * beside


class Part(msgspec.Struct, frozen=True, array_like=True):
    """The frames from `first` to before `end` of a clip."""

    first: int
    end: int

    @property
    def count(self) -> int:
        """Frames in it."""
        return self.end - self.first


def can_be_parted(settings: EditSettings) -> bool:
    """Whether frames meet in fixed anchor frames only, as far as the settings decide it; a tuned checkpoint may object, and
    so may the autoencoder's groups (`autoencoded_alike`).

    What is filled by motion looks at keyframes, which another part would edit once more.
    """
    return (
        settings.keyframe_step == 1
        and settings.normalization == "frame"
        and all(key in FIXED_KEYS for key in settings.keys)
    )


def autoencoded_alike(keys: Sequence[str], frames: int, at_once: int) -> bool:
    """Whether the autoencoder, which takes so many frames `at_once`, groups those of a part of a clip as those of the whole.

    Of a group of its own, or a shorter one, a frame's latents differ in last bits. Parts are full calls of the UNet, and so
    full groups; but the clip's last frame, where all look at it, may be in a shorter one of the whole.
    """
    return FRAMES_AT_ONCE % at_once == 0 and ("last" not in keys or frames % at_once == 0)


def cut(settings: EditSettings, frames: int, most: int) -> list[Part]:
    """At most `most` parts of about the same length that make up a clip; one where it is too short or must stay whole.

    Cuts of the clip are not known yet where this is asked: parts that they go through take a few frames more.
    """
    count = min(most, frames // LEAST)
    if count < 2 or not can_be_parted(settings):
        return [Part(0, frames)]
    served = several_anchors("mid", frames, every=settings.anchor_every) if settings.anchor_every else ()
    needed = _needed(settings.keys, frames, served)
    # Each part but the last computes its own frames and their anchors in full calls, and needs hardly a frame more.
    size = math.ceil(frames / count / FRAMES_AT_ONCE) * FRAMES_AT_ONCE
    starts, chosen = [0], set()
    for frame in range(frames):
        if len(chosen | needed[frame]) > size:
            starts.append(frame)
            chosen = set()
        chosen |= needed[frame]
    # The last few go with the part before; nor may it be steadied with those that the whole has in its last, shorter call.
    least = max(FRAMES_AT_ONCE, steady_reach(settings.steady) + frames % FRAMES_AT_ONCE)
    if len(starts) > 1 and frames - starts[-1] < least:
        starts.pop()
    return [Part(first, end) for first, end in zip(starts, [*starts[1:], frames])]


def computed(
    part: Part,
    frames: int,
    keys: Sequence[str],
    served: Sequence[Served] = (),
    beside: int = 0,
    middle: bool = False,
) -> list[int]:
    """The frames that are computed for a part of a clip of so many, in order; `served` by several anchors, if it has such.

    Its own, and as many `beside` them on either side as they are steadied with, the clip's `middle` one if that decides
    something, the anchors of these, and the neighbours that make its calls those of the whole clip: full ones, but for
    the last one of the clip. All of them have their anchors among them.
    """
    needed = _needed(keys, frames, served)
    chosen = set().union(*needed[max(0, part.first - beside) : part.end + beside])
    if middle:
        chosen |= needed[middle_frame(frames)]
    short = frames % FRAMES_AT_ONCE if part.end == frames else 0
    others = [*range(part.first - 1, -1, -1), *range(part.end, frames)]
    while len(chosen) % FRAMES_AT_ONCE != short and len(chosen) < frames:
        chosen.add(next(frame for frame in others if frame not in chosen and needed[frame] <= chosen | {frame}))
    return sorted(chosen)


def _needed(keys: Sequence[str], frames: int, served: Sequence[Served]) -> list[set[int]]:
    """For each frame itself and its anchors."""
    if served:
        return [{frame, before, after} for frame, (before, after, _) in enumerate(served)]
    places = dict(zip(FIXED_KEYS, fixed_frames(frames)))
    anchors = {places[key] for key in keys if key in places}
    return [{frame} | anchors for frame in range(frames)]
