"""How near two clips are, how steady one is, how two masks agree. Clips are (F, H, W, 3) uint8, masks (F, H, W) bool."""

from __future__ import annotations

import numpy as np

_WINDOW = 8  # pixels of a side, of structural similarity
_GREY = np.array([0.299, 0.587, 0.114])


def psnr(clip: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two (F, H, W, 3) uint8 clips, over the pixels of a (F, H, W) mask."""
    difference = clip.astype(np.float64) - other
    error = np.mean(np.square(difference if where is None else difference[where]))
    return float(20 * np.log10(255 / np.sqrt(error))) if error else float("inf")


def ssim(clip: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004) of the frames' brightness, over all windows of 8 squared pixels."""
    x, y = clip @ _GREY, other @ _GREY
    mean_x, mean_y = _window_means(x), _window_means(y)
    variance_x = _window_means(x * x) - mean_x**2
    variance_y = _window_means(y * y) - mean_y**2
    covariance = _window_means(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))))


def _window_means(values: np.ndarray) -> np.ndarray:
    """(F, H, W) to the means of all windows inside, (F, H - 7, W - 7)."""
    sums = np.pad(values, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    n = _WINDOW
    return (sums[:, n:, n:] - sums[:, :-n, n:] - sums[:, n:, :-n] + sums[:, :-n, :-n]) / n**2


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, pooled over all frames; 1 where both are empty."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


def warp_error(clip: np.ndarray, motion: np.ndarray, seen: np.ndarray) -> float:
    """Mean absolute difference (8-bit levels) of each pixel and the place in the next frame that it moves to.

    ``motion`` (F, H, W, 2): pixels right and down to the same point in the next frame; ``seen`` (F, H, W) bool: where
    that point is seen there. The last frame has no next one. NaN where nothing is seen twice.
    """
    height, width = clip.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    sums, count = 0.0, 0
    for frame, following, way, where in zip(clip[:-1], clip[1:], motion, seen):
        x = (columns + way[..., 0])[where].clip(0, width - 1)
        y = (rows + way[..., 1])[where].clip(0, height - 1)
        left, top = np.floor(x).astype(int).clip(0, width - 2), np.floor(y).astype(int).clip(0, height - 2)
        u, v = (x - left)[:, None], (y - top)[:, None]
        following = following.astype(np.float64)
        upper = following[top, left] * (1 - u) + following[top, left + 1] * u
        lower = following[top + 1, left] * (1 - u) + following[top + 1, left + 1] * u
        sums += np.abs(upper * (1 - v) + lower * v - frame[where]).sum()
        count += 3 * len(x)
    return sums / count if count else float("nan")
