"""Where each pixel of a rendered clip goes, and where it is seen again. Pure numpy."""

from __future__ import annotations

import numpy as np

from . import geometry


def true_motion(passes: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``motion`` (F, side, side, 2) float32, pixels right and down to the same point in the next frame, and ``seen``
    (F, side, side) bool: where that point is inside the next frame and not behind anything.

    Objects and floor have the renderer's vectors; the sky, which lies at no distance, has the camera's own turning.
    What belongs to one thing in a frame and to another where it goes to is hidden there. Nothing of the last frame is
    seen again.
    """
    things = _things(passes)
    frames, side = things.shape[:2]
    sky = len(passes["covers"][0]) + 1
    motion = passes["motion"].astype(np.float32)
    seen = np.zeros(things.shape, bool)
    rows, columns = np.mgrid[:side, :side]
    for frame in range(frames - 1):
        before, after = (passes["camera"][number][:, :3] for number in (frame, frame + 1))
        turned = _sky_motion(before, after, side)
        motion[frame][things[frame] == sky] = turned[things[frame] == sky]
        x = np.rint(columns + motion[frame, ..., 0]).astype(int)
        y = np.rint(rows + motion[frame, ..., 1]).astype(int)
        inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
        there = things[frame + 1][y.clip(0, side - 1), x.clip(0, side - 1)]
        seen[frame] = inside & (there == things[frame])
    return motion, seen


def _things(passes: dict[str, np.ndarray]) -> np.ndarray:
    """(F, side, side): what covers most of each pixel: an object by its index, then the floor, then the sky."""
    covers, ground = passes["covers"].astype(int), passes["ground"].astype(int)[:, None]
    return np.concatenate([covers, ground, 255 - covers.sum(1, keepdims=True) - ground], axis=1).argmax(1)


def _sky_motion(before: np.ndarray, after: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 2): how far directions move over the picture when the camera turns; rotations are camera to world."""
    rays = geometry.view_rays(before, side, 1) @ after
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    ahead = np.maximum(-rays[..., 2], 1e-3)
    x = rays[..., 0] / ahead / geometry.HALF_VIEW - centres
    y = -rays[..., 1] / ahead / geometry.HALF_VIEW - centres[:, None]
    return np.stack([x, y], axis=-1) * side / 2
