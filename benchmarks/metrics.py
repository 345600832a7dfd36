"""How near two clips are."""

from __future__ import annotations

import numpy as np


def psnr(clip: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two (F, H, W, 3) uint8 clips, over the pixels of a (F, H, W) mask."""
    difference = clip.astype(np.float64) - other
    error = np.mean(np.square(difference if where is None else difference[where]))
    return float(20 * np.log10(255 / np.sqrt(error))) if error else float("inf")
