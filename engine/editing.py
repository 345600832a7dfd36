"""An edit from frames to frames: what the command line, the worker and the tests all call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from traceback import clear_frames

import numpy as np
from torch import Tensor

from protocol.models import Model
from protocol.settings import EditSettings, SettingsError, check

from . import autoencoder
from .clips import ArrayClip, Clip
from .devices import choose_device, choose_dtype, free_memory, release_memory
from .edit_run import EditRun, Write
from .errors import EditError
from .fatezero.masks import soft_mask
from .fatezero.prompts import Prompt
from .fatezero.schedule import Schedule
from .fatezero.unet import FateZeroUNet
from .geometry import Geometry
from .keeping import Keep
from .memory import FRAMES_AT_ONCE, MARGIN, band_pixels, ran_out
from .models.checkpoint import Checkpoint, load
from .models.text import embed, read_prompt
from .parts import Part
from .plans import check_words, edit_plan
from .progress import Progress, ReportProgress

__all__ = ["EditError", "EditResult", "Editor", "Keep", "Progress", "ReportProgress", "Write"]

PIXELS_AT_ONCE = 512 * 512
"""Of all the frames that the autoencoder takes together: it runs in float32, and needs most memory of all parts."""
EMBEDDINGS_KEPT = 32
"""Of the prompts that were used last."""


@dataclass(frozen=True)
class EditResult:
    """`frames`: (F, H, W, 3 or 4) uint8 like the source's; `masks`: word -> (F, H, W) uint8; `notes`: sentences for the user."""

    frames: np.ndarray
    masks: dict[str, np.ndarray]
    notes: list[str]


class Editor:
    """A checkpoint on a device, ready to edit clips."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.unet = FateZeroUNet(checkpoint.unet, checkpoint.profile)
        self._embeddings: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    @classmethod
    def load(cls, model: str | Model, device: str = "auto", precision: str = "auto") -> Editor:
        """Load a model, `builtin` or a checkpoint's path; EditError says what is wrong with it and what would do."""
        place = choose_device(device)
        return cls(load(model, place, choose_dtype(precision, place)))

    def edit(
        self,
        clip: np.ndarray | Clip,
        settings: EditSettings,
        report: ReportProgress = lambda _: None,
        *,
        keep: Keep | None = None,
        write: Write | None = None,
        memory_share: float = 1.0,
        part: Part | None = None,
    ) -> EditResult:
        """Edit a clip, or an array (F, H, W, 3 or 4) uint8; alpha comes back as it was.

        With `keep`, the edit goes on from what an ended one has kept there, and ends in the same bits. With `write`,
        frames and masks go there, and the result has none. `memory_share`: of the free memory, what may be planned
        with. `part`: the frames that are wanted of a clip that may be parted (`parts`), else EditError `needs-whole-clip`;
        they are what they are in the whole. EditError for anything that cannot be done; no tensor of the edit outlives it, or any other exception.
        """
        clip = ArrayClip(clip) if isinstance(clip, np.ndarray) else clip
        shape = clip.shape if part is None else (part.count, *clip.shape[1:])
        collected = None if write else _Collected(shape, settings.mask_words)
        try:
            notes = self._edit(clip, settings, report, collected or write, keep, memory_share, part)
        except BaseException as error:
            clear_frames(error.__traceback__)
            if not ran_out(error):
                raise
            raise EditError(
                "memory", f"{clip.shape[0]} frames did not fit in memory.", "Edit a shorter range, or smaller frames."
            ) from error
        if collected:
            return EditResult(collected.frames, collected.masks, notes)
        return EditResult(np.empty((0, *clip.shape[1:]), np.uint8), {}, notes)

    def _edit(
        self,
        clip: Clip,
        settings: EditSettings,
        report: ReportProgress,
        write: Write,
        keep: Keep | None,
        memory_share: float,
        part: Part | None,
    ) -> list[str]:
        try:
            check(settings)
            schedule = Schedule.from_config(self.checkpoint.scheduler_config, settings.steps)
        except SettingsError as error:
            raise EditError("settings", str(error)) from error
        except ValueError as error:
            raise EditError("settings", f"This checkpoint cannot be sampled so: {error}.") from error
        source, target = (read_prompt(self.checkpoint, text) for text in (settings.source, settings.target))
        check_words(settings, source, target)
        plan = edit_plan(settings, source, target)
        return EditRun(self, clip, settings, schedule, plan, report, write, keep, memory_share, part).run()

    def autoencode(self, frames: np.ndarray) -> np.ndarray:
        """(F, H, W, 3) uint8 through the autoencoder and back: the best that any edit can keep of them."""
        geometry = self.geometry(frames)
        band = band_pixels(self.checkpoint, geometry, MARGIN * free_memory(self.unet.device))
        size = self.autoencoded_at_once(geometry) if band is None else 1
        return np.concatenate(
            [
                geometry.to_frames(
                    self.decode(self.encode(geometry.to_model(frames[start : start + size]), band), band)
                )
                for start in range(0, len(frames), size)
            ]
        )

    def release_memory(self) -> None:
        """Give back what torch keeps of the device's memory for later, but for the checkpoint itself."""
        release_memory(self.unet.device)

    def geometry(self, clip: np.ndarray | Clip) -> Geometry:
        """How frames of this size are shown to the model."""
        _, height, width, _ = clip.shape
        step = self.checkpoint.factor * 2 ** (self.unet.levels - 1)
        return Geometry.fit(width, height, self.checkpoint.image_side**2, step)

    def autoencoded_at_once(self, geometry: Geometry) -> int:
        """Frames that the autoencoder is given together."""
        return max(1, min(FRAMES_AT_ONCE, PIXELS_AT_ONCE // (geometry.padded[0] * geometry.padded[1])))

    def encode(self, pictures: Tensor, band: int | None = None) -> Tensor:
        """(F, 3, H, W) in -1 to 1 to scaled latents (F, 4, h, w). `band`: pixels, where pictures do not fit whole."""
        return autoencoder.encode(self.checkpoint.vae, pictures, band)

    def decode(self, latents: Tensor, band: int | None = None) -> Tensor:
        """Scaled latents (F, 4, h, w) to (F, 3, H, W) in -1 to 1. `band` as in `encode`."""
        return autoencoder.decode(self.checkpoint.vae, latents, band)

    def embedding(self, prompt: Prompt) -> Tensor:
        """(length, width): the prompt as the UNet takes it; computed once while it is in use."""
        known = self._embeddings
        if prompt.tokens not in known:
            known[prompt.tokens] = embed(self.checkpoint, prompt)
        known.move_to_end(prompt.tokens)
        while len(known) > EMBEDDINGS_KEPT:
            known.popitem(last=False)
        return known[prompt.tokens]

    def word_masks(
        self, words: Iterable[str], source: Prompt, maps: Tensor, latents: Tensor, geometry: Geometry
    ) -> dict[str, np.ndarray]:
        """For each word (F, H, W) uint8: where the source's cross-attention sees it; 255 is each frame's strongest place.

        `maps`: (F, pixels, tokens), the mean over all steps, of frames whose latents have the size of `latents`.
        """
        grid = self.unet.sizes(latents)[self.unet.profile.mask_level]
        return {word: geometry.to_masks(soft_mask(maps, source.positions([word]), grid, grid)[:, 0]) for word in words}


class _Collected:
    """Takes what an edit writes into arrays of the whole clip."""

    def __init__(self, shape: tuple[int, ...], words: Iterable[str]):
        self._shape, self._words = shape, words
        self.frames, self.masks = np.empty(0, np.uint8), {}

    def __call__(self, start: int, frames: np.ndarray, masks: dict[str, np.ndarray]) -> None:
        if not start:  # not before an edit has come so far
            self.frames = np.empty(self._shape, np.uint8)
            self.masks = {word: np.empty(self._shape[:3], np.uint8) for word in self._words}
        self.frames[start : start + len(frames)] = frames
        for word, part in masks.items():
            self.masks[word][start : start + len(part)] = part
