"""Mask sets as an engine's job leaves them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

WORDS = ["a", "red", "ball"]
COUNT, GRID = 6, (12, 16)


def values(word: int, frame: int, grid: tuple[int, int] = GRID) -> np.ndarray:
    """The soft mask, (H, W) uint8, of a word at a frame: a bright spot that wanders, elsewhere 0."""
    y, x = np.mgrid[: grid[0], : grid[1]]
    distance = np.hypot(y - 3 - 2 * word, x - 2 - 2 * frame)
    return np.rint(255 * np.clip(1 - distance / 4, 0, 1)).astype(np.uint8)


def picture(addon, pixels: np.ndarray):
    """(H, W) or (H, W, C) uint8 as the add-on holds it."""
    return addon.png.Picture(pixels.shape[1], pixels.shape[0], pixels[0, 0].size, pixels.tobytes())


def array(picture) -> np.ndarray:
    """(H, W, C) uint8."""
    return np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, picture.channels)


def bilinear(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) as (height, width) of `size` = (width, height): pixels' centres at half numbers, edges go on outside."""
    for axis, length in ((0, size[1]), (1, size[0])):
        had = mask.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * had / length - 0.5, 0, had - 1)
        low = place.astype(int)
        part = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
        below = np.take(mask, low, axis).astype(float)
        mask = below + (np.take(mask, np.minimum(low + 1, had - 1), axis) - below) * part
    return mask


def write_set(addon, source, job_id: str = "job", kinds=("word", "word", "word"), count=COUNT, **index) -> Path:
    """A mask set's folder with soft masks for each word and frame."""
    folder = addon.folders.masks_folder() / job_id
    folder.mkdir()
    words = []
    for number, kind in enumerate(kinds):
        files = [f"w{number:02}_{frame + 1:05}.png" for frame in range(count)]
        for frame, name in enumerate(files):
            (folder / name).write_bytes(addon.png.encode(picture(addon, values(number, frame))))
        words.append({"word": WORDS[number], "index": number, "kind": kind, "files": files})
    made = {"source": dataclasses.asdict(source), "prompt": "a red ball", "digest": "d", "frames": count, "first": 0}
    (folder / "masks.json").write_text(json.dumps(made | {"step": 1, "words": words} | index))
    return folder
