"""Where the clip of a job in parts is cut: its workers look for that together, and none reads what another one has read.

Each begins with the frames of its own part, leaves the small pictures that cuts are found by in the job's folder, and
takes from there what the others have left. Nobody waits for anybody: what two have read at the same time is the same.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.clips import Clip
from engine.parts import Part
from engine.shots import COLUMNS, ROWS, cuts_between, small_pictures
from protocol.errors import ProtocolError

from .divided import write_whole

FRAMES_TOGETHER = 32
"""In one file: 216 KiB."""


def found_together(folder: Path, clip: Clip, part: Part, before: Callable[[range], None]) -> list[int]:
    """The clip's cuts as `find_cuts` finds them; `folder` is the whole job's. `before` hears which frames are read next."""
    count = clip.shape[0]
    blocks = [range(first, min(first + FRAMES_TOGETHER, count)) for first in range(0, count, FRAMES_TOGETHER)]
    own = part.first // FRAMES_TOGETHER
    pictures: dict[range, np.ndarray] = {}
    for block in (*blocks[own:], *blocks[:own]):
        path = folder / f"pictures-{block.start}"
        kept = _kept(path, block)
        if kept is None:
            before(block)
            kept = small_pictures(clip, block)
            with contextlib.suppress(ProtocolError):  # a full disk: the others read these frames, too
                write_whole(path, hashlib.sha256(kept).digest() + kept.tobytes())
        pictures[block] = kept
    return cuts_between(np.concatenate([pictures[block] for block in blocks]))


def _kept(path: Path, block: range) -> np.ndarray | None:
    """Small pictures that are there undamaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, pictures = data[:32], data[32:]
    if hashlib.sha256(pictures).digest() != digest:
        return None
    return np.frombuffer(pictures, np.float32).reshape(len(block), ROWS, COLUMNS, 3)
