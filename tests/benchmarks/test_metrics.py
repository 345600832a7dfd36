"""Figures of clips whose figures are known."""

import math

import numpy as np
import pytest

from benchmarks.metrics import iou, psnr, ssim, warp_error

FRAMES, SIDE = 3, 32


@pytest.fixture
def clip() -> np.ndarray:
    """Noise that moves one pixel to the right in each frame."""
    wide = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE + FRAMES, 3), np.uint8)
    return np.stack([wide[:, FRAMES - frame : FRAMES - frame + SIDE] for frame in range(FRAMES)])


def test_psnr_looks_only_where_it_is_told(clip):
    other, where = clip.copy(), np.zeros(clip.shape[:3], bool)
    other[:, :8] = 255 - other[:, :8]
    where[:, 8:] = True
    assert psnr(clip, other, where) == math.inf
    flat = np.full_like(clip, 100)
    assert psnr(flat, flat + 10) == pytest.approx(20 * np.log10(25.5))


def test_ssim_is_one_for_the_same_and_falls_with_noise(clip):
    assert ssim(clip, clip) == pytest.approx(1)
    noise = np.random.default_rng(1).normal(0, 20, clip.shape)
    little, much = (np.clip(clip + scale * noise, 0, 255).astype(np.uint8) for scale in (0.3, 2))
    assert 1 > ssim(clip, little) > ssim(clip, much) > 0
    # Frames without structure are judged by brightness alone: the formula's first factor.
    dark, bright = np.full_like(clip, 100), np.full_like(clip, 150)
    expected = (2 * 100 * 150 + 6.5025) / (100**2 + 150**2 + 6.5025)
    assert ssim(dark, bright) == pytest.approx(expected, rel=1e-3)


def test_iou():
    mask, other = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    assert iou(mask, other) == 1
    mask[0, :2], other[0, 1:3] = True, True
    assert iou(mask, other) == pytest.approx(1 / 3)


def test_a_clip_that_moves_as_said_has_no_warp_error(clip):
    motion = np.zeros((*clip.shape[:3], 2))
    motion[..., 0] = 1
    seen = np.ones(clip.shape[:3], bool)
    seen[:, :, -1] = False
    assert warp_error(clip, motion, seen) == pytest.approx(0, abs=1e-9)
    assert warp_error(clip, 0 * motion, seen) > 50
    # Half a pixel between two columns is their mean.
    ramp = np.tile(np.arange(SIDE, dtype=np.uint8)[:, None], (FRAMES, SIDE, 1, 3))
    assert warp_error(ramp, motion / 2, seen) == pytest.approx(0.5)
    assert math.isnan(warp_error(clip, motion, seen & False))
