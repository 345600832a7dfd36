"""What every measurement needs: a folder for engines, the tiny checkpoint, short clips and settings of short edits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from protocol import models
from protocol.settings import EditSettings, apply_preset
from tests.service.harness import Engine, small_checkpoint


class Stage:
    """Engines in `folder`/home, one after the other; each finds what the ones before have left."""

    def __init__(self, folder: Path):
        self._folder, self.home = folder, folder / "home"
        checkpoint = folder / "checkpoint"
        if not checkpoint.exists():
            small_checkpoint(checkpoint)
        self.model = models.register(self.home, checkpoint)

    def start(self, *arguments: str, before: str = "") -> Engine:
        """A server process; `before` is run in it first. Whoever starts it ends it."""
        return Engine(self.home, *arguments, before=before)

    def settings(self, **changes) -> EditSettings:
        """A short edit."""
        values = dict(steps=2, model=self.model, mask_words=("ball",))
        return apply_preset("attribute", "a red ball", "a blue ball", **(values | changes))

    def clip(self, frames: int, width: int = 48, height: int = 32, seed: int = 0) -> list[Path]:
        """PNG files of noise, each of its own; made once."""
        folder = self._folder / f"clip-{frames}-{width}x{height}-{seed}"
        paths = [folder / f"{number:05}.png" for number in range(frames)]
        if not folder.exists():
            folder.mkdir()
            source = np.random.default_rng(seed)
            for path in paths:
                Image.fromarray(source.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        return paths
