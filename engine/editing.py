"""An edit from frames to frames: what the command line, the worker and the tests all call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from traceback import clear_frames

import numpy as np
from torch import Tensor

from protocol.messages import SoftMask, WordSeen
from protocol.models import Model
from protocol.settings import EditSettings, SettingsError, check, for_masks

from . import autoencoder
from .clips import ArrayClip, Clip
from .devices import choose_device, choose_dtype, free_memory, held_memory, release_memory, use_real_cores
from .edit_run import EditRun, Write
from .errors import EditError
from .fatezero.profile import level_sizes
from .fatezero.prompts import Prompt
from .fatezero.schedule import Schedule
from .fatezero.unet import FateZeroUNet
from .geometry import Geometry
from .keeping import Keep
from .kernel_choice import settle
from .memory import FRAMES_AT_ONCE, MARGIN, band_pixels, ran_out
from .models.checkpoint import Checkpoint, load
from .models.text import embed, read_prompt
from .own_masks import ArrayMasks, Masks, check_masks
from .parts import Part
from .plans import check_words, edit_plan
from .previews import Preview
from .progress import Progress, ReportProgress
from .soft_masks import words_seen
from .survey import SurveyRun, WriteMasks

__all__ = ["EditError", "EditResult", "Editor", "Keep", "Preview", "Progress", "ReportProgress", "Write", "WriteMasks"]

PIXELS_AT_ONCE = 512 * 512
"""Of all the frames that the autoencoder takes together: it mostly runs in float32, and needs most memory of all parts."""
KEPT_SHARE = 0.25
"""Of the memory that is left beside the calls of the UNet: the source's queries and keys of the inversion may take it."""
EMBEDDINGS_KEPT = 32
"""Of the prompts that were used last."""


@dataclass(frozen=True)
class EditResult:
    """`frames`: (F, H, W, 3 or 4) uint8 like the source's; `masks`: word -> (F, H, W) uint8; `soft_masks`: -> (F, h, w)
    uint8; `notes`: sentences for the user; `words`: the source prompt's, as the model sees them."""

    frames: np.ndarray
    masks: dict[str, np.ndarray]
    soft_masks: dict[SoftMask, np.ndarray]
    notes: list[str]
    words: list[WordSeen]


class Editor:
    """A checkpoint on a device, ready to edit clips."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint
        self.unet = FateZeroUNet(checkpoint.unet, checkpoint.profile)
        self.kept_share = KEPT_SHARE
        self._embeddings: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    @classmethod
    def load(
        cls, model: str | Model, device: str = "auto", precision: str = "auto", home: Path | None = None
    ) -> Editor:
        """Load a model, `builtin` or a checkpoint's path; EditError says what is wrong with it and what would do.

        `home`: the engine's, where attention is to be computed by what is fastest on the device (`kernel_choice`).
        """
        place = choose_device(device)
        dtype = choose_dtype(precision, place)
        if place.type == "cpu":
            use_real_cores()
        if home:
            settle(place, dtype, home)
        return cls(load(model, place, dtype))

    def edit(
        self,
        clip: np.ndarray | Clip,
        settings: EditSettings,
        report: ReportProgress = lambda _: None,
        *,
        keep: Keep | None = None,
        write: Write | None = None,
        memory_share: float = 1.0,
        own_masks: np.ndarray | Masks | None = None,
        preview: Callable[[Preview], None] | None = None,
        part: Part | None = None,
    ) -> EditResult:
        """Edit a clip, or an array (F, H, W, 3 or 4) uint8; alpha comes back as it was.

        With `keep`, the edit goes on from what an ended one has kept there, and ends in the same bits. With `write`,
        frames and masks go there, and the result has none. `memory_share`: of the free memory, what may be planned
        with. `own_masks`: the user's own, (F, H, W) uint8, where the settings use them. `preview` is shown what the edit
        looks like, every second at most. `part`: the frames that are wanted of a clip that may be parted (`parts`), else
        EditError `needs-whole-clip`; they are what they are in the whole. EditError for anything that cannot be done; no
        tensor of the edit outlives it, or any other exception.
        """
        clip = ArrayClip(clip) if isinstance(clip, np.ndarray) else clip
        own_masks = ArrayMasks(own_masks) if isinstance(own_masks, np.ndarray) else own_masks
        collected = None if write else _Collected(clip.shape if part is None else (part.count, *clip.shape[1:]))
        more = dict(write=collected or write, own_masks=own_masks, preview=preview, part=part)
        run = partial(EditRun, report=report, keep=keep, memory_share=memory_share, **more)
        check_masks(settings, clip.shape, own_masks)
        if part and own_masks:
            raise EditError("needs-whole-clip", "With masks of the user's own, a clip is edited whole.")
        result = self._run(run, clip, settings)
        return collected.into(result) if collected else result

    def survey(
        self,
        clip: np.ndarray | Clip,
        settings: EditSettings,
        report: ReportProgress = lambda _: None,
        *,
        write: WriteMasks,
        keep: Keep | None = None,
        memory_share: float = 1.0,
    ) -> EditResult:
        """Write the masks of all words of the source prompt; the inversion for that is kept for edits of the same clip.

        The result has no frames and no masks. Arguments and errors as in `edit`.
        """
        clip = ArrayClip(clip) if isinstance(clip, np.ndarray) else clip
        run = partial(SurveyRun, report=report, write_masks=write, keep=keep, memory_share=memory_share)
        return self._run(run, clip, for_masks(settings))

    def _run(self, run: Callable[..., EditRun], clip: Clip, settings: EditSettings) -> EditResult:
        try:
            return self._run_planned(run, clip, settings)
        except BaseException as error:
            clear_frames(error.__traceback__)
            if not ran_out(error):
                raise
            raise EditError(
                "memory", f"{clip.shape[0]} frames did not fit in memory.", "Edit a shorter range, or smaller frames."
            ) from error

    def _run_planned(self, run: Callable[..., EditRun], clip: Clip, settings: EditSettings) -> EditResult:
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
        notes = run(self, clip, settings, schedule, plan).run()
        nothing = np.empty((0, *clip.shape[1:]), np.uint8)
        return EditResult(nothing, {}, {}, notes, words_seen(self.checkpoint, source))

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

    def held_memory(self) -> int:
        """Bytes of the device's own memory that the checkpoint takes between edits."""
        return held_memory(self.unet.device)

    def geometry(self, clip: np.ndarray | Clip) -> Geometry:
        """How frames of this size are shown to the model."""
        _, height, width, _ = clip.shape
        step = self.checkpoint.factor * 2 ** (self.unet.levels - 1)
        return Geometry.fit(width, height, self.checkpoint.image_side**2, step)

    def grid(self, geometry: Geometry) -> tuple[int, int]:
        """(rows, columns) of the masks' feature maps."""
        width, height = (side // self.checkpoint.factor for side in geometry.padded)
        return level_sizes((height, width), self.unet.levels)[self.unet.profile.mask_level]

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


class _Collected:
    """Takes what an edit writes into arrays of the whole clip."""

    def __init__(self, shape: tuple[int, ...]):
        self._shape = shape
        self.frames, self.masks = np.empty(0, np.uint8), {}

    def __call__(self, start: int, frames: np.ndarray, masks: dict[str | SoftMask, np.ndarray]) -> None:
        if not start:  # not before an edit has come so far
            self.frames = np.empty(self._shape, np.uint8)
            self.masks = {word: np.empty((self._shape[0], *part.shape[1:]), np.uint8) for word, part in masks.items()}
        self.frames[start : start + len(frames)] = frames
        for word, part in masks.items():
            self.masks[word][start : start + len(part)] = part

    def into(self, result: EditResult) -> EditResult:
        """The result with what was written."""
        masks = {word: mask for word, mask in self.masks.items() if isinstance(word, str)}
        soft = {word: mask for word, mask in self.masks.items() if isinstance(word, SoftMask)}
        return replace(result, frames=self.frames, masks=masks, soft_masks=soft)
