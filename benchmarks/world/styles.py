"""Picture styles as deterministic filters of a finished frame, so that a style edit has a right answer too.

Each frame is drawn by itself from its pixels alone: what is steady in the clip stays steady.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 8  # pixels of a side of pixel art's squares, in pictures of 128
_SHADES = 8  # of each channel in pixel art
_PAPER = np.array([250, 246, 236], np.float32)
_GRAPHITE = np.array([52, 52, 58], np.float32)


def drawn(frame: np.ndarray, style: str) -> np.ndarray:
    """A frame (side, side, 3) uint8 in one of ``spec.STYLES``; 'plain' gives it back as it is."""
    return (
        frame if style == "plain" else np.rint(_STYLES[style](frame.astype(np.float32))).clip(0, 255).astype(np.uint8)
    )


def _watercolor(frame: np.ndarray) -> np.ndarray:
    """Washes of thin paint: smooth, light and near to the paper, darker where a wash ends."""
    wash = _blurred(_blurred(frame, 2), 2)
    grey = wash.mean(-1, keepdims=True)
    paint = (wash + 0.35 * (wash - grey)).clip(0, 255) / 255
    rim = np.abs(_blurred(grey, 1) - _blurred(grey, 4)) / 255
    return _PAPER * (0.40 + 0.60 * paint) * (1 - (1.6 * rim).clip(0, 0.45))


def _sketch(frame: np.ndarray) -> np.ndarray:
    """Graphite on paper: lines on the dark side of every edge, and a little shading."""
    grey = frame @ np.array([0.30, 0.59, 0.11], np.float32)
    line = ((_blurred(grey[..., None], 3)[..., 0] - grey) / 22).clip(0, 1)
    shading = 0.42 * (1 - grey / 255)
    ink = (1 - (1 - line) * (1 - shading))[..., None]
    return _PAPER + ink * (_GRAPHITE - _PAPER)


def _pixel(frame: np.ndarray) -> np.ndarray:
    """Squares of few colours."""
    side = frame.shape[0]
    count = side // _BLOCK
    means = frame.reshape(count, _BLOCK, count, _BLOCK, 3).mean((1, 3))
    shades = np.rint(means / 255 * (_SHADES - 1)) / (_SHADES - 1) * 255
    return shades.repeat(_BLOCK, 0).repeat(_BLOCK, 1)


_STYLES = {"watercolor": _watercolor, "sketch": _sketch, "pixel": _pixel}


def _blurred(frame: np.ndarray, reach: int) -> np.ndarray:
    """Mean over squares of 2 ``reach`` + 1 pixels; the edge is continued."""
    width = 2 * reach + 1
    padded = np.pad(frame, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    rows = sum(padded[i : i + len(frame)] for i in range(width))
    return sum(rows[:, i : i + frame.shape[1]] for i in range(width)) / width**2
