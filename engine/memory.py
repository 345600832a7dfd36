"""How many frames a device takes at once, and what to do when it took too many."""

from __future__ import annotations

from collections.abc import Callable
from traceback import clear_frames
from typing import TypeVar

import torch

from .devices import free_memory, release_memory
from .errors import EditError
from .geometry import Geometry
from .models.checkpoint import Checkpoint
from .parts import FRAMES_AT_ONCE

ACTIVATIONS = 36
"""Feature maps of the first level's width that a UNet holds at its fullest moment, for each row of each frame."""
MARGIN = 0.9
"""Part of the free memory that is planned with."""

AUTOENCODER_ACTIVATIONS = 8
"""Feature maps that the autoencoder holds at its fullest moment, for each picture; of its levels it is the finest two's."""

HELD_BY_ANCHORS = 1
"""Frames whose memory the keys and values of two anchors take at most, where a clip has several."""

T = TypeVar("T")


def bytes_per_frame(checkpoint: Checkpoint, geometry: Geometry) -> int:
    """Memory that each frame of a call takes, an estimate from above: two rows that run, beside what the source has left."""
    width, height = (side // checkpoint.factor for side in geometry.padded)
    item = checkpoint.unet.dtype.itemsize
    return 3 * ACTIVATIONS * checkpoint.unet.config.block_out_channels[0] * width * height * item


def band_pixels(checkpoint: Checkpoint, geometry: Geometry, free: float) -> int | None:
    """Pixels of the bands in which the autoencoder takes a picture, in `free` bytes; None: it fits whole."""
    channels = checkpoint.vae.config.block_out_channels
    each = AUTOENCODER_ACTIVATIONS * checkpoint.vae.dtype.itemsize
    width, height = geometry.padded
    return None if each * max(channels[:2]) * width * height <= free else int(free // (each * max(channels)))


class Budget:
    """The memory that is free for a clip's frames: `share` of the device's, taken when the edit begins."""

    def __init__(self, checkpoint: Checkpoint, geometry: Geometry, device: torch.device, share: float):
        self._free, self._share, self._size = free_memory(device), share, geometry.padded
        self._each = bytes_per_frame(checkpoint, geometry)
        self.band = band_pixels(checkpoint, geometry, self._free * share * MARGIN)
        """Pixels of the bands in which the autoencoder takes a frame; None: it takes it whole."""

    def chunk(self, frames: int, anchors: int, begun_with: int | None, held: int = 0) -> int:
        """Frames to a call for a clip that may be parted: as many as an edit was `begun_with`, if that is still right.

        `held`: frames whose memory is taken by what lies between calls (`HELD_BY_ANCHORS`). Then it ends in the same bits as an undisturbed one. EditError where not one frame fits.
        """
        if self._each > self._free:
            raise self._refusal(1, 0)
        planned, most = (
            min(
                frames, max(anchors + 1, min(FRAMES_AT_ONCE, int(self._free * self._share * part // self._each) - held))
            )
            for part in (MARGIN, 1.0)
        )
        return begun_with if begun_with and begun_with <= most else planned

    def beside(self, chunk: int, share: float) -> int:
        """Bytes that may be taken to save time, a `share` of what calls of `chunk` frames leave free."""
        return max(0, int(share * (self._free * self._share * MARGIN - chunk * self._each)))

    def check_whole(self, frames: int) -> None:
        """Refuse a clip that cannot be parted and would not fit, naming the range that would."""
        fitting = int(self._free * self._share * MARGIN // self._each)
        if frames > fitting:
            raise self._refusal(frames, fitting)

    def _refusal(self, frames: int, fitting: int) -> EditError:
        wanted, there = frames * self._each / 2**30, self._free * self._share / 2**30
        counted = f"{frames} frames" if frames > 1 else "One frame"
        return EditError(
            "memory",
            f"{counted} at {self._size[0]} x {self._size[1]} would take about {wanted:.1f} GiB of memory, and "
            f"{there:.1f} GiB are free.",
            f"Edit at most {fitting} frames at a time, for example the first {fitting}."
            if fitting
            else "Close other programs, or use a smaller checkpoint.",
        )


def attempt(device: torch.device, work: Callable[..., T], *arguments) -> T | None:
    """What `work` returns, or None where memory ran out; what it held of it is free again then."""
    try:
        return work(*arguments)
    except Exception as error:
        if not ran_out(error):
            raise
        clear_frames(error.__traceback__)
    release_memory(device)
    return None


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that there was no memory left; torch, and what it calls, often say it in words alone."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return (
        isinstance(error, RuntimeError)
        and any(words in text for words in _RAN_OUT)
        and not any(words in text for words in _OF_MEMORY_ELSE)
    )


_RAN_OUT = ("memory", "bad_alloc", "could not create a primitive", "ALLOC_FAILED")
"""The last is cuBLAS's and cuDNN's, whose own memory is beside torch's."""
_OF_MEMORY_ELSE = ("memory access", "memory location", "memory format")
"""A kernel's fault, after which a GPU does nothing more for this process, and mistakes in a program: fewer frames are no help."""
