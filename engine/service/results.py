"""What a job has made, on its way into the store."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.editing import EditResult
from protocol.messages import SoftMask

from . import frames, pipes
from .store import Store


class Results:
    """Stores frames and masks as they are made, each frame's soft masks as one pack."""

    def __init__(self, store: Store, owner: str):
        self._store, self._owner = store, owner
        self._frames: list[str] = []
        self._masks: dict[str, list[str]] = {}
        self._soft_masks: list[SoftMask] = []
        self._packs: list[str] = []

    def add(self, edited: Iterable[np.ndarray], masks: dict[str | SoftMask, np.ndarray]) -> list[str]:
        """Store the next frames, whose names are returned, and their masks (n, H, W)."""
        names = self._put(edited)
        self._frames += names
        soft = {which: pictures for which, pictures in masks.items() if isinstance(which, SoftMask)}
        for word, pictures in masks.items():
            if isinstance(word, str):
                self._masks.setdefault(word, []).extend(self._put(pictures))
        self._soft_masks = list(soft)
        for together in zip(*soft.values()):
            self._packs.append(self._store.put(self._owner, b"".join(map(frames.encode, together))))
        return names

    def finished(self, job_id: str, result: EditResult, seconds: dict[str, float]) -> pipes.Finished:
        """What the server is told in the end."""
        return pipes.Finished(
            job_id=job_id,
            frames=self._frames,
            masks=self._masks,
            notes=result.notes,
            timings=seconds,
            words=result.words,
            soft_masks=self._soft_masks,
            packs=self._packs,
        )

    def _put(self, pictures: Iterable[np.ndarray]) -> list[str]:
        return [self._store.put(self._owner, frames.encode(picture)) for picture in pictures]
