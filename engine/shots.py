"""Where a clip is cut: the frames with which a new shot begins. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .clips import Clip

ROWS, COLUMNS = 18, 32
"""Of the small pictures that frames are compared by."""
_READ_AT_ONCE, _TOLD_EVERY = 8, 32
DOWN, ACROSS = 3, 6
"""Rows and columns that a picture may have moved by from one frame to the next, by a pan or a shake."""
LEAST = 10.0
"""Levels (of 255) by which the frames on both sides of a cut differ at least, moved onto each other as well as can be:
inside shots of the rendered world it was 2.5 at most, between two of them 21 at least."""
SHARPER = 3.0
"""Times that a cut's difference is that of the frames around it: fast pans and fights differ everywhere."""
AROUND = 6
"""Frames on each side that count for that,"""
OTHERS = 2
"""but for so many that differ most: they may be cuts too. (All the others would be too few: of a drawing that is held for
two or three frames most do not differ at all.)"""
LASTING = 3
"""Frames on each side, any of which differ from those on the other side by `LEAST`: what is back sooner was a flash."""


def find_cuts(clip: Clip, told: Callable[[int], None] = lambda frames: None) -> list[int]:
    """The frames, ascending, with which the clip's second shot begins and all later ones.

    Reads the clip once, a few frames at a time, and holds of the last few a picture of 18 x 32 pixels; but a clip that has
    its `cuts`, as they were found before, is not read. `told` hears how many are read, every 32 frames. A cut is a change
    that is large, sharp and lasting (`LEAST`, `SHARPER`, `LASTING`). So pans, shakes, flashes, fades and dissolves are
    none. A shot may be a single frame; but what the same shot goes on after within three frames was a flash in it, and of
    cuts with more than two others within six frames none is found.
    """
    known = getattr(clip, "cuts", None)
    if known is not None:
        return list(known)
    frames = clip.shape[0]
    return _cuts_of(frames, lambda start, end: small_pictures(clip, range(start, end)), told)


def cuts_between(pictures: np.ndarray) -> list[int]:
    """As `find_cuts`, from the `small_pictures` of all frames."""
    return _cuts_of(len(pictures), lambda start, end: pictures[start:end])


def _cuts_of(
    frames: int, read: Callable[[int, int], np.ndarray], told: Callable[[int], None] = lambda frames: None
) -> list[int]:
    """The cuts of so many frames, whose small pictures are `read` from one number to before another, in their order."""
    pictures, first = np.empty((0, ROWS, COLUMNS, 3), np.float32), 0
    steps: list[float] = []  # the differences from each frame to the next
    cuts: list[int] = []
    decided = 1
    for start in range(0, frames, _READ_AT_ONCE):
        if start and not start % _TOLD_EVERY:
            told(start)
        gone, end = max(0, decided - LASTING - first), min(start + _READ_AT_ONCE, frames)
        pictures = np.concatenate([pictures[gone:], read(start, end)])
        first += gone
        known = len(steps) - first
        steps += _differences(pictures[known:-1], pictures[known + 1 :]).tolist()
        ready = end if end == frames else max(decided, end - AROUND)
        cuts += [frame for frame in range(decided, ready) if _is_cut(pictures, first, steps, frame)]
        decided = ready
    return cuts


def _is_cut(pictures: np.ndarray, first: int, steps: Sequence[float], frame: int) -> bool:
    """Whether a shot begins with `frame`, of whose neighbours' pictures `first` is the first."""
    here = steps[frame - 1]
    around = sorted([*steps[max(0, frame - 1 - AROUND) : frame - 1], *steps[frame : frame + AROUND]], reverse=True)
    if here < LEAST or (around and here < SHARPER * around[min(OTHERS, len(around) - 1)]):
        return False
    place = frame - first
    before, after = pictures[max(0, place - LASTING) : place], pictures[place : place + LASTING]
    return all(_differences(before, other).min() >= LEAST for other in after)


def small_pictures(clip: Clip, frames: range) -> np.ndarray:
    """(n, ROWS, COLUMNS, 3) float32 of some frames that follow each other: the means of the pixels in each place."""
    _, height, width, _ = clip.shape
    rows, columns = (np.arange(count) * side // count for count, side in ((ROWS, height), (COLUMNS, width)))
    sizes = np.diff(rows, append=height).clip(1)[:, None, None] * np.diff(columns, append=width).clip(1)[:, None]
    pictures = np.empty((len(frames), ROWS, COLUMNS, 3), np.float32)
    for start in range(0, len(frames), _READ_AT_ONCE):
        some = frames[start : start + _READ_AT_ONCE]
        for index, frame in enumerate(clip[some.start : some.stop], start):
            lines = np.add.reduceat(frame[..., :3], rows, axis=0, dtype=np.float32)
            pictures[index] = np.add.reduceat(lines, columns, axis=1) / sizes
    return pictures


def _differences(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean absolute differences (levels) of small pictures (n, ROWS, COLUMNS, 3) from others, or from a single one, each
    moved onto the other as well as can be."""
    least = np.full(len(some), np.inf, np.float32)
    for down in range(-DOWN, DOWN + 1):
        for across in range(-ACROSS, ACROSS + 1):
            moved = np.abs(_part(some, down, across) - _part(others, -down, -across)).mean((-3, -2, -1))
            least = np.minimum(least, moved)
    return least


def _part(pictures: np.ndarray, down: int, across: int) -> np.ndarray:
    """What is left of pictures whose first `down` rows and `across` columns are gone; of a negative number the last."""
    return pictures[..., max(0, down) : ROWS + min(0, down), max(0, across) : COLUMNS + min(0, across), :]
