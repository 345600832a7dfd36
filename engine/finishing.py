"""From decoded pictures to the frames of the result: steadied, filled in between keyframes, laid over what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from protocol.messages import SoftMask
from protocol.settings import EditSettings

from .clips import Clip, PartOfClip
from .fatezero.background import lay_over
from .fatezero.masks import combined
from .geometry import Geometry
from .keyframes import Chosen, Edited, Filling, keyframes
from .motion import opencv
from .own_masks import Masks
from .steady import steadied

Write = Callable[[int, np.ndarray, dict[str | SoftMask, np.ndarray]], None]
"""Takes edited frames in their order as they are made: the number of the first, from 0; (n, H, W, C) uint8 like the
source's; and masks (n, H, W) uint8: for each mask word one in the frames' size, and soft masks, which are small."""

_TAKEN = object()
"""Among the masks of a keyframe: how much of the edit each place takes."""


class Finishing:
    """Of one clip (or part of one), whose `edited` frames and `edited_masks` are what the model edits."""

    def __init__(
        self,
        clip: Clip,
        own_masks: Masks | None,
        settings: EditSettings,
        geometry: Geometry,
        write: Write,
        cuts: Sequence[int] = (),
    ):
        """`cuts`: the frames of the whole clip with which a new shot begins: nothing is carried across them."""
        self._clip, self._own_masks, self._settings, self._geometry = clip, own_masks, settings, geometry
        self._write = write
        self.edited, self.edited_masks = clip, own_masks
        self._numbers, self._cuts = range(clip.shape[0]), cuts
        self._source = lru_cache(4)(lambda number: geometry.to_levels(clip[number : number + 1][..., :3])[0])
        self._filling = None
        if settings.keyframe_step > 1 or settings.steady:
            opencv()  # whoever lacks it hears of it before the edit, not after
        if settings.keyframe_step > 1:
            self._numbers = keyframes(clip.shape[0], settings.keyframe_step, cuts)
            self._cuts = [self._numbers.index(cut) for cut in cuts]
            self.edited = Chosen(clip, self._numbers)
            self.edited_masks = own_masks and Chosen(own_masks, self._numbers)
            self._filling = Filling(self._source, geometry.crop)

    def steadied(self, decoded: Iterable[tuple[slice, np.ndarray]]) -> Iterator[tuple[slice, np.ndarray]]:
        """Pictures (n, h, w, 3) uint8 in the model's size, some frames of the edited ones at a time, as settings say."""
        if not self._settings.steady:
            yield from decoded
            return
        # Of a part of a clip, frames that lie beside each other need not be neighbours in the whole.
        numbers = self._clip.frames if isinstance(self._clip, PartOfClip) else range(self.edited.shape[0])
        places = {number: place for place, number in enumerate(numbers)}
        single = (
            (numbers[part.start + place], picture) for part, some in decoded for place, picture in enumerate(some)
        )
        for number, levels in steadied(
            single, lambda number: self._source_of_edited(places[number]), self._settings.steady, self._cuts
        ):
            yield slice(places[number], places[number] + 1), levels[None]

    def take(
        self, part: slice, levels: np.ndarray, taken: np.ndarray | None, masks: Mapping[str | SoftMask, np.ndarray]
    ) -> Iterator[int]:
        """Write some of the edited frames, and those between them and the ones before; gives their numbers.

        `levels` (n, h, w, 3) uint8 in the model's size; `taken` (n, H, W) uint8: how much of the edit each place takes,
        as far as the words say (None: all of it).
        """
        if self._filling is None:
            self._finish(part.start, levels, taken, dict(masks))
            yield part.start
            return
        layers = dict(masks) if taken is None else {**masks, _TAKEN: taken}
        for place, picture in enumerate(levels):
            its = {name: mask[place] for name, mask in layers.items()}
            for frame in self._filling.until(Edited(self._numbers[part.start + place], picture, its)):
                its_masks = {name: mask[None] for name, mask in frame.masks.items()}
                self._finish(frame.number, frame.levels[None], its_masks.pop(_TAKEN, None), its_masks)
                yield frame.number

    def _source_of_edited(self, place: int) -> np.ndarray:
        return self._source(self._numbers[place])

    def _finish(
        self, start: int, levels: np.ndarray, taken: np.ndarray | None, masks: dict[str | SoftMask, np.ndarray]
    ) -> None:
        part, frames = slice(start, start + len(levels)), self._geometry.enlarged(levels)
        if taken is not None:
            frames = lay_over(self._clip[part][..., :3], frames, self._with_own(taken, part))
        if self._clip.shape[-1] == 4:
            frames = np.concatenate([frames, self._clip[part][..., 3:]], axis=-1)
        self._write(start, frames, masks)

    def _with_own(self, share: np.ndarray, part: slice) -> np.ndarray:
        """A share (n, H, W) uint8 in the frames' size as the user's own mask changes it, with that one's fine edges."""
        if self._own_masks is None:
            return share
        own = torch.from_numpy(np.ascontiguousarray(self._own_masks[part]))
        return combined(torch.from_numpy(share), own, self._settings.own_mask).numpy()
