"""The masks of a clip's words without an edit: the inversion alone, which edits of the same prompt then begin with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocol.messages import SoftMask

from .edit_run import EditRun

WriteMasks = Callable[[int, dict[SoftMask, np.ndarray]], None]
"""Takes the soft masks (n, h, w) uint8 of the next frames: the number of the first, from 0."""
FRAMES_AT_ONCE = 32
"""That are written together: what they take is next to nothing."""


class SurveyRun(EditRun):
    """An edit that ends with the inversion, and writes a soft mask of every word that the model sees."""

    def __init__(self, *arguments, write_masks: WriteMasks, **more):
        super().__init__(*arguments, write=lambda *_: None, **more)
        self._write_masks = write_masks
        self._reconstruction = None

    def _costs(self) -> dict[str, float]:
        return {"encode": 1.0, "invert": self._steps}

    def _run(self) -> None:
        maps, source = self._whatever_is_lost(self._mean_maps), self._plan.source
        words = dict.fromkeys(word for word, span in zip(source.words, source.spans) if span)
        for start in range(0, self._frames, FRAMES_AT_ONCE):
            part = slice(start, min(start + FRAMES_AT_ONCE, self._frames))
            _, soft = self._words.of_words(words, maps[part], self._pictures(part))
            self._write_masks(start, soft)
