"""What is measured of one edit, and what many edits come to."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from ..metrics import iou, psnr, ssim, warp_error
from ..world.motion import true_motion
from .pairs import KINDS, Truth

Figures = dict[str, float | bool | None]


def figures(
    truth: Truth, edited: np.ndarray, mask: np.ndarray | None, coded: dict[str, np.ndarray], threshold: float
) -> Figures:
    """Of an edited clip (F, H, W, 3) uint8. ``coded``: source and target through the autoencoder and back.

    ``mask`` (F, H, W) uint8: of the pair's word, which counts where it is above ``threshold`` of 255, as the preview shows it.

    PSNR in dB, warp errors in 8-bit levels; None where there is nothing to measure: no word, no background.
    """
    region, outside = truth.region, ~truth.region
    near = psnr(edited, truth.target, region)
    success = near > max(psnr(edited, clip, region) for clip in truth.wrong)
    if truth.other is not None:
        place, kept, changed = truth.other
        success &= psnr(edited, kept, place) > max(psnr(edited, clip, place) for clip in changed)
    motion, seen = true_motion(truth.passes)
    return {
        "success": bool(success),
        "region_psnr": near,
        "truth_psnr": psnr(edited, truth.target),
        "truth_ssim": ssim(edited, truth.target),
        "truth_ceiling": psnr(coded["target"], truth.target),
        "background_psnr": psnr(edited, truth.source, outside) if outside.any() else None,
        "ceiling_psnr": psnr(coded["source"], truth.source, outside) if outside.any() else None,
        "mask_iou": iou(mask > 255 * threshold, truth.named) if mask is not None and truth.named is not None else None,
        "warp": warp_error(edited, motion, seen),
        "source_warp": warp_error(truth.source, motion, seen),
    }


def summary(rows: Iterable[Figures]) -> dict[str, float | None]:
    """The figures of several edits, named as in ``quality.json`` (with more): means, and one ratio of warp errors.

    The warp errors' sums are compared, not each edit's: where nothing moves, the source's is next to nothing.
    """
    rows = list(rows)
    result = {name: _mean(row.get(name) for row in rows) for name in rows[0] if name not in ("warp", "source_warp")}
    moving = [row for row in rows if not math.isnan(row["warp"])]
    total = sum(row["source_warp"] for row in moving)
    result["warp_ratio"] = sum(row["warp"] for row in moving) / total if total else None
    return result | {"count": len(rows)}


def by_kind(rows: Iterable[tuple[str, Figures]]) -> dict[str, dict[str, float | None]]:
    """``summary`` of each kind that occurs, and of ``all``."""
    rows = list(rows)
    kinds = {kind: summary(row for other, row in rows if other == kind) for kind in KINDS if kind in dict(rows)}
    return kinds | {"all": summary(row for _, row in rows)}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
