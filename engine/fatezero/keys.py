"""Which frames give spatial-temporal self-attention its keys and values (section 3.4); no torch, so that a server may ask."""

from __future__ import annotations

from collections.abc import Sequence

FIXED_KEYS = ("first", "mid", "last")


def fixed_frames(frames: int) -> tuple[int, int, int]:
    """Where the frames of `FIXED_KEYS` lie in a clip of so many."""
    return 0, (frames - 1) // 2, frames - 1


def key_frames(keys: Sequence[str], frames: int, fixed: tuple[int, int, int] | None = None) -> list[list[int]]:
    """For each of `keys` the frame that serves each frame: `first`, `mid`, `last`, or an offset clamped to the clip.

    `fixed`: where the first three lie, if not where a whole clip of so many frames has them.
    """
    places = dict(zip(FIXED_KEYS, fixed or fixed_frames(frames)))
    return [
        [places[key] if key in places else min(max(frame + int(key), 0), frames - 1) for frame in range(frames)]
        for key in keys
    ]
