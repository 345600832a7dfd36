"""Pictures on their way to the GPU: asked for while drawing, read between two drawings, and dropped when there are many."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import gpu

from ..png import Picture
from ..trouble import Trouble


class Pictures:
    """Pictures by key: those that were used last.

    Whoever draws must not wait for a disk: `texture` has a picture or notes that it is wanted, and `load` reads what is
    wanted when there is time.
    """

    def __init__(self, most_bytes: int):
        """Holds at most `most_bytes` of pixels, and one picture more."""
        self._most = most_bytes
        self._had: OrderedDict[Hashable, Picture | Trouble] = OrderedDict()
        self._textures: dict[Hashable, gpu.types.GPUTexture] = {}
        self._wanted: dict[Hashable, Callable[[], Picture]] = {}

    @property
    def wanting(self) -> bool:
        """Whether there is something to read."""
        return bool(self._wanted)

    def put(self, key: Hashable, picture: Picture | Trouble) -> None:
        """Have this picture, or what came in the place of one."""
        self._wanted.pop(key, None)
        self._textures.pop(key, None)
        self._had[key] = picture
        self._had.move_to_end(key)
        while len(self._had) > 1 and sum(_size(each) for each in self._had.values()) > self._most:
            dropped, _ = self._had.popitem(last=False)
            self._textures.pop(dropped, None)

    def get(self, key: Hashable) -> Picture | Trouble | None:
        """What there is under this key, which counts as used now."""
        if key in self._had:
            self._had.move_to_end(key)
        return self._had.get(key)

    def want(self, key: Hashable, read: Callable[[], Picture]) -> None:
        """Have `load` call `read` for this picture. Only what was wanted since the last `load` is read."""
        if key not in self._had:
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
        picture = self.get(key)
        if not isinstance(picture, Picture):
            return None
        if key not in self._textures:
            self._textures[key] = upload(picture)
        return self._textures[key]

    def clear(self) -> None:
        """Hold nothing."""
        self._had.clear()
        self._textures.clear()
        self._wanted.clear()


def upload(picture: Picture) -> gpu.types.GPUTexture:
    """A texture of one float for each pixel, the top row first, whose lower three bytes are blue, green and red.

    Python can only give floats to the GPU. So packed they are a quarter of what four floats would be, and no number is
    touched on the way. The fourth byte makes all of them usual numbers, which no GPU changes: none is infinite, or so
    small that it might be taken for 0. The shaders take them apart.
    """
    data, step = picture.data, picture.channels
    red, green, blue = (0, 1, 2) if step > 2 else (0, 0, 0)
    packed = bytearray(4 * picture.width * picture.height)
    packed[0::4], packed[1::4], packed[2::4] = data[blue::step], data[green::step], data[red::step]
    packed[3::4] = b"\x40" * (picture.width * picture.height)
    floats = gpu.types.Buffer("FLOAT", picture.width * picture.height, memoryview(packed).cast("f"))
    return gpu.types.GPUTexture((picture.width, picture.height), format="R32F", data=floats)


def _size(picture: Picture | Trouble) -> int:
    return len(picture.data) if isinstance(picture, Picture) else 0
