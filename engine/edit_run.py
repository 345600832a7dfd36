"""One edit from its frames to its frames, in chunks, and after every step in a state that it can go on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from protocol.messages import SoftMask
from protocol.settings import EditSettings, asks_for_picture_words

from .anchoring import anchored
from .clips import Clip, PartOfClip
from .errors import EditError
from .fatezero.background import edited_share, refined_share
from .fatezero.blending import changing_masks
from .fatezero.frames import Frames, TemporalSettings, put
from .fatezero.keys import Served, fixed_frames
from .fatezero.masks import combined, without_words
from .fatezero.method import EditPlan, Inversion, edit, invert
from .fatezero.refined import within_reach
from .fatezero.schedule import Schedule
from .fatezero.sources import KeptSources
from .finishing import Finishing, Write
from .geometry import levels_of, pictures_of
from .keeping import Keep, KeptInversion, KeptState, StepLost, key_of
from .keyframes import Chosen, keyframes
from .memory import FRAMES_AT_ONCE, HELD_BY_ANCHORS, Budget, attempt
from .models.text import read_prompt
from .own_masks import Masks, for_latents
from .parts import Part, autoencoded_alike, computed, steady_reach
from .plans import notes_on, notes_on_profile, notes_on_words, temporal_settings
from .previews import Preview, Previewer
from .progress import Progress, ReportProgress, Ticker
from .reconstruction import Reconstruction
from .soft_masks import WordMasks, small

if TYPE_CHECKING:
    from .editing import Editor

T = TypeVar("T")


class EditRun:
    """An edit that is under way. Of a clip it holds some frames at a time, and without `keep` the latents and maps of all
    frames and steps, never all pixels."""

    def __init__(
        self,
        editor: Editor,
        clip: Clip,
        settings: EditSettings,
        schedule: Schedule,
        plan: EditPlan,
        report: ReportProgress,
        write: Write,
        keep: Keep | None,
        memory_share: float,
        own_masks: Masks | None = None,
        preview: Callable[[Preview], None] | None = None,
        part: Part | None = None,
    ):
        self._schedule, self._steps = schedule, schedule.steps
        self._ticker = Ticker(report, self._costs())
        temporal, whole = temporal_settings(editor.checkpoint.profile, settings), clip.shape[0]
        self._geometry, self._device = editor.geometry(clip), editor.unet.device
        budget = Budget(editor.checkpoint, self._geometry, self._device, memory_share)
        self._band = budget.band
        if temporal.needs_whole_clip:  # before it is read for its cuts, which only bring more keyframes
            budget.check_whole(len(keyframes(whole, settings.keyframe_step)))
        self._temporal, cuts, notes = anchored(
            temporal, settings, clip, lambda read: report(Progress("read", read, whole, 0.0))
        )
        if part:
            at_once = 1 if self._band else editor.autoencoded_at_once(self._geometry)
            clip, write, self._temporal = _parted(clip, part, write, self._temporal, settings, at_once)
            preview = preview and _of_whole(clip, preview)
        self._finishing = Finishing(clip, own_masks, settings, self._geometry, write, cuts)
        if self._finishing.edited is not clip:
            clip, own_masks = self._finishing.edited, self._finishing.edited_masks
            preview = preview and _of_whole(clip, preview)
        self._editor, self._clip, self._settings, self._plan = editor, clip, settings, plan
        self._frames = clip.shape[0]
        self._factor, self._own_masks = editor.checkpoint.factor, own_masks
        self._words = WordMasks(
            plan.source, editor.grid(self._geometry), self._geometry, self._factor, settings.mask == "refined"
        )
        self._previewer = Previewer(clip, self._geometry, preview) if preview else None
        # What it says is of the whole clip, which a part does not see.
        tells = not part and plan.source.tokens == plan.target.tokens
        self._reconstruction = Reconstruction() if tells else None
        if self._temporal.needs_whole_clip:
            budget.check_whole(self._frames)
        self._inversion, self._kept, self._state, begun_with = Inversion(latents=[]), None, None, None
        if keep:
            key = self._inversion_key(keep)
            self._inversion = KeptInversion(keep, key)
            masks = {"own_masks": own_masks.digest} if own_masks else {}
            self._kept = KeptState(keep, key_of(settings=msgspec.to_builtins(settings), inversion=key, **masks))
            begun_with, self._state = self._kept.read()
        anchors, held = len(self._temporal.anchors(self._frames)), HELD_BY_ANCHORS if self._temporal.served else 0
        self._chunk = budget.chunk(self._frames, anchors, begun_with, held)
        profile = editor.checkpoint.profile
        self._notes = [
            *notes_on(plan, self._steps),
            *notes_on_words(profile, plan),
            *notes_on_profile(profile, settings),
            *notes,
        ]
        if self._temporal.needs_whole_clip and self._frames > self._chunk:
            self._notes.append(_whole_clip_note(self._frames, settings))
            self._chunk = self._frames
        self._sources = KeptSources(plan.takes(self._steps), budget.beside(self._chunk + held, editor.kept_share))
        self._embeddings = {
            "source": editor.embedding(plan.source),
            "empty": editor.embedding(read_prompt(editor.checkpoint, "")),
            "target": editor.embedding(plan.target),
        }

    def run(self) -> list[str]:
        """Do what is not done yet, and return what was done otherwise than asked. To be called once."""
        try:
            self._run()
            if self._reconstruction:
                self._notes.append(self._reconstruction.note())
            return self._notes
        finally:  # the traceback of an exception may hold this object, which shall not hold tensors then
            self._inversion = self._state = self._embeddings = self._schedule = self._sources = None

    def _costs(self) -> dict[str, float]:
        """What each stage costs, in denoising steps of one row."""
        return {"encode": 1.0, "invert": self._steps, "edit": 3.0 * self._steps, "decode": 2.0}

    def _run(self) -> None:
        if self._kept:
            self._kept.write(self._chunk, self._state)
        if self._own_masks:
            self._take_own_masks()
        self._decode(self._whatever_is_lost(self._denoise))

    def _denoise(self) -> Frames | None:
        """Complete the edit; returns the source's maps, where masks need them."""
        if self._edited < self._steps:
            self._invert()
            self._fitting(self._edit)
        needed = self._settings.mask_words or (self._settings.keep_background and self._settings.blend_source)
        return self._mean_maps() if needed else None

    def _whatever_is_lost(self, work: Callable[[], T]) -> T:
        """Do `work`, and again where a step of the inversion has been damaged on the disk, or has made room there; but not
        where it was lost before."""
        lost_before = set()
        while True:
            try:
                return work()
            except StepLost as lost:
                if str(lost) in lost_before:
                    raise EditError(
                        "cannot-read",
                        f"What the engine kept of the inversion was damaged twice ({lost}).",
                        "Check the disk that holds the engine's folder.",
                    ) from lost
                lost_before.add(str(lost))
            self._inversion.level()

    @property
    def _edited(self) -> int:
        """Steps that are done."""
        return self._state.step + 1 if self._state else 0

    def _invert(self) -> None:
        """Complete the inversion from where it has come to; `StepLost` where that cannot be read."""
        if not len(self._inversion.latents):
            encoded = None
            for part, latents in self._autoencoded("encode", self._encode):
                encoded = put(encoded, part, latents, self._inversion.table, self._frames)
            self._ticker.say("encode", self._frames, self._frames)
            self._inversion.latents.append(encoded)
        if self._inversion.steps < self._steps:
            self._fitting(self._invert_on)

    def _encode(self, part: slice) -> Tensor:
        return self._editor.encode(self._pictures(part), self._band).cpu()

    def _invert_on(self) -> bool:
        def told(share: float = 0.0) -> None:
            self._ticker.say("invert", self._inversion.steps + share, self._steps)

        told()
        source = self._plan.source, self._embeddings["source"]
        how = self._temporal, self._chunk, told, self._sources, self._plan.reuse
        for _ in invert(self._editor.unet, self._schedule, self._inversion, *source, *how):
            told()
        return True

    def _edit(self) -> bool:
        def told(share: float = 0.0) -> None:
            self._ticker.say("edit", self._edited + share, self._steps)

        told()
        what = self._inversion, self._plan, self._embeddings, self._temporal
        watched = self._previewer.watched if self._previewer else tuple
        for state in edit(
            self._editor.unet, self._schedule, *what, self._state, self._chunk, told, self._sources, watched
        ):
            self._state = state
            if self._kept:
                self._kept.write(self._chunk, state)
                self._inversion.use()
            if state.clean:
                self._previewer.take(state.step + 1, self._steps, state.clean, lambda: self._inversion.latents[0])
            told()
        return True

    def _take_own_masks(self) -> None:
        """Put the user's own masks into the plan, in the latents' size."""
        width, height = (side // self._factor for side in self._geometry.padded)
        at_once = self._editor.autoencoded_at_once(self._geometry)
        own = for_latents(self._settings.own_mask, self._own_masks, self._geometry, (height, width), at_once)
        self._plan = replace(self._plan, blend=replace(self._plan.blend, own=own))

    def _mean_maps(self) -> Frames:
        """(F, pixels, tokens): the source's averaged cross-attention, mean over all steps."""
        self._invert()
        return self._inversion.mean_maps()

    def _decode(self, maps: Frames | None) -> None:
        settings = self._settings
        share = self._edited_share(maps) if settings.keep_background and not self._in_pictures else None
        for part, levels in self._finishing.steadied(self._autoencoded("decode", self._decode_part)):
            source = self._pictures(part) if settings.mask_words or self._in_pictures else None
            masks = {}
            if settings.mask_words:
                for made in self._words.of_words(settings.mask_words, maps[part], source):
                    masks |= made
            taken = None if share is None else share[part]
            if self._in_pictures:
                taken = self._refined_share(maps[part], source, part, pictures_of(levels))
            masks |= self._blend_mask(part, taken)
            if taken is not None:
                taken = self._geometry.to_masks(taken)
            for _ in self._finishing.take(part, levels, taken, masks):
                self._ticker.say("decode", part.start, self._frames)
        self._ticker.say("decode", self._frames, self._frames)

    @property
    def _in_pictures(self) -> bool:
        """Whether what is kept of the source is found in the pictures, some frames at a time."""
        settings = self._settings
        return settings.keep_background and bool(settings.blend_source) and self._words.refined

    def _edited_share(self, maps: Frames) -> Tensor:
        """(F, rows, columns) in 0 to 1, on the grid of the masks: how much of the edit each place of the result takes,
        as far as the words say; without any all of it."""
        unet = self._editor.unet
        if not self._settings.blend_source:
            return torch.full((self._frames, 1, 1), float(without_words(self._settings.own_mask)))
        sizes, level = unet.sizes(self._state.latents), unet.profile.mask_level
        unions = []
        for start in range(0, self._frames, FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            target = None if self._state.target_maps is None else self._state.target_maps[part]
            masks = changing_masks(unet, self._plan, maps[part], target, sizes, level)
            unions.append(torch.stack(masks).any(0))
        return edited_share([torch.cat(unions)])

    def _refined_share(self, maps: Tensor, source: Tensor, part: slice, edited: Tensor) -> Tensor:
        """As `_edited_share`, of some frames and in the size of their pictures, source and edit, which draw the edges."""
        plan, blend = self._plan, self._plan.blend
        places = [(plan.source.positions(blend.source_words), maps, source)]
        if blend.target_words:
            places.append((plan.target.positions(blend.target_words), self._state.target_maps[part], edited))
        masks = [self._words.soft(*place) > blend.threshold for place in places]
        return refined_share(within_reach(masks, blend.reach), max(1, self._factor // 2))

    def _pictures(self, part: slice) -> Tensor:
        """The source's frames for the model, (n, 3, H, W) in -1 to 1."""
        return self._geometry.to_model(self._clip[part][..., :3])

    def _blend_mask(self, part: slice, share: Tensor | None) -> dict[SoftMask, np.ndarray]:
        """How much of the edit each place has taken: of pixels where the background is kept, else of the masked steps."""
        masked_steps = self._plan.masked_steps(self._steps)
        if share is not None:
            soft = share[:, None]
        elif masked_steps:
            soft = self._state.masked[part] / masked_steps
        else:
            return {}
        levels = small(soft, self._geometry, self._factor)
        if share is not None and self._own_masks is not None:
            own = small(self._plan.blend.own.levels[part] / 255, self._geometry, self._factor)
            levels = combined(torch.from_numpy(levels), torch.from_numpy(own), self._settings.own_mask).numpy()
        return {SoftMask(word=" ".join(self._settings.blend_source), kind="blend"): levels}

    def _decode_part(self, part: slice) -> np.ndarray:
        pictures = self._editor.decode(self._state.latents[part], self._band)
        if self._reconstruction:
            self._reconstruction.compare(self._pictures(part), pictures)
        return levels_of(pictures)

    def _autoencoded(self, stage: str, work: Callable[[slice], T]) -> Iterator[tuple[slice, T]]:
        """What `work` makes of each few frames in their order; of fewer, and of bands, once memory has run out."""
        size, start = self._editor.autoencoded_at_once(self._geometry) if self._band is None else 1, 0
        while start < self._frames:
            self._ticker.say(stage, start, self._frames)
            part = slice(start, min(start + size, self._frames))
            done = attempt(self._device, work, part)
            if done is not None:
                yield part, done
                start = part.stop
            elif size > 1:
                size //= 2
            else:
                self._halve_band()

    def _halve_band(self) -> None:
        """Let the autoencoder take half as much of a frame at once."""
        width, height = self._geometry.padded
        self._band = (width * height if self._band is None else self._band) // 2
        if self._band < 2 * width:
            raise _one_is_too_large(self._geometry.padded)

    def _fitting(self, work: Callable[[], bool]) -> None:
        """Do `work`, which goes on from the last step, with half as many frames at once whenever memory runs out."""
        while not attempt(self._device, work):
            self._sources.forget()
            if self._temporal.needs_whole_clip and self._frames > 1:
                raise EditError(
                    "memory", f"{self._frames} frames did not fit in the device's memory.", "Edit a shorter range."
                )
            if self._chunk == 1:
                raise _one_is_too_large(self._geometry.padded)
            self._chunk //= 2

    def _inversion_key(self, keep: Keep) -> str:
        """A name for all that decides the inversion, and nothing else."""
        return key_of(
            checkpoint=self._editor.checkpoint.files.digest(keep.digests),
            dtype=str(self._editor.unet.dtype),
            device=self._device.type,
            clip=self._clip.digest,
            geometry=asdict(self._geometry),
            source=self._plan.source.tokens,
            steps=self._steps,
            # Without cuts as it was before there could be some: what is kept stays known.
            temporal={name: value for name, value in asdict(self._temporal).items() if name != "cuts" or value},
            scheduler=dict(self._editor.checkpoint.scheduler_config),
            **({"reuse": self._plan.reuse} if self._plan.reuse > 1 else {}),
        )


def _parted(
    clip: Clip, part: Part, write: Write, temporal: TemporalSettings, settings: EditSettings, at_once: int
) -> tuple[PartOfClip, Write, TemporalSettings]:
    """A part of the clip as a clip; what is computed beside it is not written. `at_once`: frames to the autoencoder."""
    if temporal.needs_whole_clip:
        raise EditError("needs-whole-clip", "This checkpoint needs all frames of a clip together.")
    if settings.keyframe_step > 1:
        raise EditError("needs-whole-clip", "Frames that are filled by motion need their keyframes.")
    if temporal.cuts:
        raise EditError("needs-whole-clip", "Shots with several key frames each are edited one after the other.")
    whole = clip.shape[0]
    if not autoencoded_alike(temporal.keys, whole, at_once):
        raise EditError("needs-whole-clip", "Of a part, the autoencoder would take other frames together.")
    some = PartOfClip(
        clip,
        computed(
            part, whole, temporal.keys, temporal.served, steady_reach(settings.steady), asks_for_picture_words(settings)
        ),
    )
    places = {frame: index for index, frame in enumerate(some.frames)}
    begin = places[part.first]  # its own frames lie together, as they are neighbours in the whole

    def write_own(start: int, frames: np.ndarray, masks: dict[str | SoftMask, np.ndarray]) -> None:
        own = slice(max(0, begin - start), max(0, begin + part.count - start))
        if len(frames[own]):
            chosen = {word: pictures[own] for word, pictures in masks.items()}
            write(start + own.start - begin, frames[own], chosen)

    fixed = tuple(places.get(frame, 0) for frame in fixed_frames(whole))
    served = [temporal.served[frame] for frame in some.frames] if temporal.served else []
    placed = tuple(Served(places[before], places[after], share) for before, after, share in served)
    return some, write_own, replace(temporal, fixed=fixed, served=placed)


def _of_whole(clip: PartOfClip | Chosen, preview: Callable[[Preview], None]) -> Callable[[Preview], None]:
    """Shows what is seen of a part of a clip, with the numbers that the frames have in the whole."""
    return lambda seen: preview(replace(seen, frames=[clip.frames[index] for index in seen.frames]))


def _whole_clip_note(frames: int, settings: EditSettings) -> str:
    reason = "normalisation over the clip" if settings.normalization == "clip" else "keys of neighbouring frames"
    return f"All {frames} frames were computed together, as {reason} needs them; memory grows with the clip's length."


def _one_is_too_large(size: tuple[int, int]) -> EditError:
    return EditError(
        "memory",
        f"Not one frame at {size[0]} x {size[1]} fits in the device's memory.",
        "Close other programs, or use half precision or a smaller checkpoint.",
    )
