"""What the benchmark asks for, and whether a run reaches it."""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = {"attribute": 0.90, "background": 0.85, "style": 0.85, "object": 0.70, "one_of_two": 0.80}
"""Least share of each kind's edits that succeed."""
BACKGROUND = 3.0  # dB that a background may be below the autoencoder's own
PREVIEW_IOU = 0.6
PAPER_MASK = 0.75  # of the best that its grid can reach
WARP = 1.2
RECONSTRUCTION = 1.5  # dB below the autoencoder's own


@dataclass(frozen=True)
class Bar:
    """A figure and its bound: `most` says whether it must not be above it, else not below."""

    name: str
    bound: float
    measured: float
    most: bool = False

    @property
    def met(self) -> bool:
        return self.measured <= self.bound if self.most else self.measured >= self.bound


def bars(kinds: dict[str, dict], reconstruction: dict[str, float | None]) -> list[Bar]:
    """Of a run's figures by kind (``figures.by_kind``): only those that were measured."""
    wanted = []
    for kind, figures in kinds.items():
        if kind in SUCCESS:
            wanted.append(Bar(f"success, {kind}", SUCCESS[kind], figures["success"]))
            wanted.append(Bar(f"background, {kind}: dB below the autoencoder's", BACKGROUND, _short_of(figures), True))
            wanted.append(Bar(f"preview mask IoU, {kind}", PREVIEW_IOU, figures.get("mask_iou")))
            wanted.append(Bar(f"paper's mask, {kind}: share of its grid's best", PAPER_MASK, figures.get("mask_ratio")))
    wanted.append(Bar("warp error to the source's", WARP, kinds["all"].get("warp_ratio"), True))
    again, ceiling = reconstruction["psnr"], reconstruction["ceiling_psnr"]
    short = None if again is None else ceiling - again
    wanted.append(Bar("reconstruction: dB below the autoencoder's", RECONSTRUCTION, short, True))
    return [bar for bar in wanted if bar.measured is not None]


def _short_of(figures: dict) -> float | None:
    return None if figures.get("background_psnr") is None else figures["ceiling_psnr"] - figures["background_psnr"]
