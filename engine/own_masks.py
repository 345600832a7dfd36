"""The user's own mask of a clip: a grey picture a frame, white where the edit may change something."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from protocol.settings import EditSettings

from .errors import EditError
from .fatezero.masks import OwnMask
from .geometry import Geometry


class Masks(Protocol):
    """Masks of a clip's frames, read as they are needed; a `Clip` without channels."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(F, H, W), those of the clip."""

    @property
    def digest(self) -> str:
        """Hex, of all masks."""

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        """Some of them, (n, H, W) uint8."""


class ArrayMasks:
    """Masks (F, H, W) uint8 in memory."""

    def __init__(self, masks: np.ndarray):
        self._masks, self.shape = masks, masks.shape

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.shape).encode() + np.ascontiguousarray(self._masks).tobytes()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        return self._masks[part]


def check_masks(settings: EditSettings, clip: tuple[int, ...], masks: Masks | None) -> None:
    """Refuse settings that use the user's own mask without one for each frame of a clip of this shape, and the reverse."""
    if bool(settings.own_mask) == (masks is not None) and (masks is None or masks.shape == clip[:3]):
        return
    raise EditError(
        "settings",
        f"own_mask is '{settings.own_mask}', and there are {0 if masks is None else masks.shape[0]} masks for "
        f"{clip[0]} frames.",
        "Give one mask a frame, in the frames' size, or none and an empty own_mask.",
    )


def for_latents(mode: str, masks: Masks, geometry: Geometry, size: tuple[int, int], at_once: int) -> OwnMask:
    """The masks at the latents' `size` (height, width), made of `at_once` frames at a time."""
    parts = [_smaller(masks[start : start + at_once], geometry, size) for start in range(0, masks.shape[0], at_once)]
    return OwnMask(mode, torch.cat(parts))


def _smaller(masks: np.ndarray, geometry: Geometry, size: tuple[int, int]) -> Tensor:
    shown = geometry.to_model(masks[..., None].repeat(3, -1))[:, :1]
    return ((functional.interpolate(shown, size=size, mode="area") + 1) * 127.5).round().byte()
