"""Pictures on their way to the GPU: asked for while drawing, read between two drawings, and dropped when there are many."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import gpu
import numpy as np

from ..trouble import Trouble


class Pictures:
    """Pictures by key, those that were used last.

    Whoever draws must not wait for a disk: `texture` has a picture or notes that it is wanted, and `load` reads what is
    wanted when there is time.
    """

    def __init__(self, most_bytes: int):
        """Holds at most `most_bytes` of pixels, and one picture more."""
        self._most = most_bytes
        self._pixels: OrderedDict[Hashable, np.ndarray | Trouble] = OrderedDict()
        self._textures: dict[Hashable, gpu.types.GPUTexture] = {}
        self._wanted: dict[Hashable, Callable[[], np.ndarray]] = {}

    @property
    def wanting(self) -> bool:
        """Whether there is something to read."""
        return bool(self._wanted)

    def put(self, key: Hashable, pixels: np.ndarray | Trouble) -> None:
        """Have this picture, (H, W, C) uint8 with the top row first, or what came in the place of one."""
        self._wanted.pop(key, None)
        self._textures.pop(key, None)
        self._pixels[key] = pixels
        self._pixels.move_to_end(key)
        while len(self._pixels) > 1 and sum(_size(each) for each in self._pixels.values()) > self._most:
            dropped, _ = self._pixels.popitem(last=False)
            self._textures.pop(dropped, None)

    def get(self, key: Hashable) -> np.ndarray | Trouble | None:
        """What there is under this key, which counts as used now."""
        if key in self._pixels:
            self._pixels.move_to_end(key)
        return self._pixels.get(key)

    def want(self, key: Hashable, read: Callable[[], np.ndarray]) -> None:
        """Have `load` call `read` for this picture. Only what was wanted since the last `load` is read."""
        if key not in self._pixels:
            self._wanted[key] = read

    def load(self, seconds: float) -> bool:
        """Read wanted pictures until that time is over, one at least; whether there are new ones."""
        deadline = time.monotonic() + seconds
        wanted, self._wanted = self._wanted, {}
        loaded = False
        for key, read in wanted.items():
            if loaded and time.monotonic() > deadline:
                self._wanted[key] = read
                continue
            try:
                self.put(key, read())
            except Trouble as trouble:
                self.put(key, trouble)
            loaded = True
        return loaded

    def forget_wishes(self) -> None:
        """Nothing is wanted any more: another frame is shown."""
        self._wanted.clear()

    def texture(self, key: Hashable) -> gpu.types.GPUTexture | None:
        """The picture on the GPU, if it was loaded; only while drawing."""
        pixels = self.get(key)
        if not isinstance(pixels, np.ndarray):
            return None
        if key not in self._textures:
            self._textures[key] = upload(pixels)
        return self._textures[key]

    def clear(self) -> None:
        """Hold nothing."""
        self._pixels.clear()
        self._textures.clear()
        self._wanted.clear()


def upload(pixels: np.ndarray) -> gpu.types.GPUTexture:
    """A texture of (H, W, C) uint8 pixels, the bottom row first as the GPU has it; of one channel or of four."""
    height, width, channels = pixels.shape
    if channels in (2, 3):
        full = np.full((height, width, 4), 255, np.uint8)
        full[..., :3] = pixels[..., : channels if channels == 3 else 1]
        pixels, channels = full, 4
    values = np.ascontiguousarray(pixels[::-1]).astype(np.float32).ravel() / np.float32(255)
    data = gpu.types.Buffer("FLOAT", values.size, values)
    return gpu.types.GPUTexture((width, height), format="R8" if channels == 1 else "RGBA8", data=data)


def _size(pixels: np.ndarray | Trouble) -> int:
    return pixels.nbytes if isinstance(pixels, np.ndarray) else 0
