"""Frames of any size in a model's size and back: scaled with their aspect kept, padded at the edges, never stretched."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """(width, height) pairs in pixels: the frame, the frame as the model sees it, and that with its padding."""

    frame: tuple[int, int]
    content: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def fit(cls, width: int, height: int, area: int, step: int) -> Geometry:
        """For frames of `width` x `height`, about `area` pixels in multiples of `step`."""
        scale = sqrt(area / (width * height))
        padded = tuple(max(step, step * round(side * scale / step)) for side in (width, height))
        scale = min(padded[0] / width, padded[1] / height)
        content = tuple(max(1, round(side * scale)) for side in (width, height))
        return cls((width, height), content, padded)

    def to_model(self, frames: np.ndarray) -> Tensor:
        """(F, H, W, 3) uint8 to (F, 3, h, w) float32 in -1 to 1."""
        return pictures_of(self.to_levels(frames))

    def to_levels(self, frames: np.ndarray) -> np.ndarray:
        """(F, H, W, 3) to (F, h, w, 3) uint8, as the model sees them."""
        left, top = self._corner()
        margins = [(top, self.padded[1] - self.content[1] - top), (left, self.padded[0] - self.content[0] - left)]
        small = [
            np.pad(np.asarray(_resize(Image.fromarray(frame), self.content)), [*margins, (0, 0)], mode="edge")
            for frame in frames
        ]
        return np.stack(small)

    def to_frames(self, pictures: Tensor) -> np.ndarray:
        """(F, 3, h, w) in -1 to 1 to (F, H, W, 3) uint8."""
        return self.enlarged(levels_of(pictures))

    def enlarged(self, levels: np.ndarray) -> np.ndarray:
        """(F, h, w, 3) to (F, H, W, 3) uint8: what the model sees to frames."""
        return np.stack([np.asarray(_resize(Image.fromarray(self.crop(frame)), self.frame)) for frame in levels])

    def to_masks(self, soft: Tensor) -> np.ndarray:
        """(F, rows, columns) in 0 to 1, over the padded picture, to (F, H, W) uint8."""
        width, height = self.padded
        full = torch.nn.functional.interpolate(soft[:, None].float(), size=(height, width), mode="bilinear")
        levels = (full[:, 0].clamp(0, 1) * 255).round().byte().cpu().numpy()
        cropped = [Image.fromarray(np.ascontiguousarray(self.crop(mask))) for mask in levels]
        return np.stack([np.asarray(mask.resize(self.frame, Image.Resampling.BILINEAR)) for mask in cropped])

    def small(self, most: int, padded_width: int) -> tuple[int, int]:
        """(width, height) of the frame where the padded one is `padded_width` wide, and no side longer than `most`."""
        scale = padded_width / self.padded[0]
        scale = min(scale, most / max(self.content))
        return tuple(max(1, round(side * scale)) for side in self.content)

    def content_of(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(F, C, rows, columns) over the padded picture to (F, C, height, width) over the frame alone, interpolated."""
        scale = [inner / outer for inner, outer in zip(self.content, self.padded)]
        middle = [
            2 * (corner + inner / 2) / outer - 1
            for corner, inner, outer in zip(self._corner(), self.content, self.padded)
        ]
        places = [(torch.arange(count, dtype=torch.float32, device=maps.device) * 2 + 1) / count - 1 for count in size]
        across, down = (place * part + centre for place, part, centre in zip(places, scale, middle))
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).expand(len(maps), -1, -1, -1)
        return torch.nn.functional.grid_sample(
            maps.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def crop(self, picture: np.ndarray) -> np.ndarray:
        """(h, w, …) over the padded picture to the frame's part of it."""
        left, top = self._corner()
        return picture[top : top + self.content[1], left : left + self.content[0]]

    def _corner(self) -> tuple[int, int]:
        return tuple((outer - inner) // 2 for outer, inner in zip(self.padded, self.content))


def levels_of(pictures: Tensor) -> np.ndarray:
    """(F, 3, h, w) in -1 to 1 to (F, h, w, 3) uint8."""
    return ((pictures.float().clamp(-1, 1) + 1.0) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def pictures_of(levels: np.ndarray) -> Tensor:
    """(F, h, w, 3) uint8 to (F, 3, h, w) in -1 to 1."""
    return torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
