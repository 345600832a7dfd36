"""How a clip moves: dense optical flow between two of its frames, and how far it can be trusted at each place.

The flow is DIS (Kroeger et al. 2016, arXiv 1603.03590) as OpenCV has it, of pictures in the model's size: an edit says
nothing finer. OpenCV is loaded with the first flow that is asked for, and keeps to one thread: the others are torch's.
"""

from __future__ import annotations

from functools import cache, cached_property, lru_cache

import numpy as np

from .errors import EditError

SLIP = 1.0
"""Pixels: a place that comes to lie so far off on its way to the other frame and back is half sure."""
LIKENESS = 12.0
"""8-bit levels: what differs so much from what was looked for is half sure."""
SMALL = 256 * 256
"""Pixels of a picture up to which flow is followed in its full size; beyond, as OpenCV proposes, in half of it."""


class Between:
    """The motion between two pictures (h, w, 3) uint8 of a clip, computed when it is first asked for."""

    def __init__(self, picture: np.ndarray, other: np.ndarray):
        self._picture, self._other = picture, other

    @cached_property
    def there(self) -> np.ndarray:
        """(h, w, 2) float32: pixels right and down from each place of the picture to the same thing in the other one."""
        return flow(self._picture, self._other)

    @cached_property
    def back(self) -> np.ndarray:
        """The same from each place of the other picture."""
        return flow(self._other, self._picture)

    @cached_property
    def trust(self) -> np.ndarray:
        """(h, w) float32, 0 to 1: how sure it is where each place of the picture lies in the other one.

        It falls where the way there and back does not end where it began, and where what is found looks otherwise: what
        is hidden in the other picture does both.
        """
        return _trust(self._picture, self._other, self.there, self.back)

    @cached_property
    def trust_back(self) -> np.ndarray:
        """The same of each place of the other picture."""
        return _trust(self._other, self._picture, self.back, self.there)


def flow(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w, 2) float32: pixels right and down from each place of `picture` (h, w, 3) uint8 to the same in `other`."""
    cv2 = opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if picture.shape[0] * picture.shape[1] <= SMALL:
        search.setFinestScale(0)
    grey = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (picture, other))
    return search.calc(*grey, None)


def warped(picture: np.ndarray, way: np.ndarray) -> np.ndarray:
    """What lies in `picture` (h, w) or (h, w, C) where `way` (h, w, 2) leads, interpolated; beyond an edge the edge's."""
    cv2 = opencv()
    x, y = _places(*way.shape[:2])
    return cv2.remap(picture, x + way[..., 0], y + way[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def resized(way: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flow for pictures of `size` (height, width), or a map (h, w) of them."""
    height, width = way.shape[:2]
    if (height, width) == size:
        return way
    large = opencv().resize(way, size[::-1], interpolation=opencv().INTER_LINEAR)
    return large * np.float32([size[1] / width, size[0] / height]) if way.ndim == 3 else large


def _trust(picture: np.ndarray, other: np.ndarray, there: np.ndarray, back: np.ndarray) -> np.ndarray:
    slip = np.square(there + warped(back, there)).sum(-1)
    unlike = np.square(warped(other.astype(np.float32), there) - picture).mean(-1)
    return np.exp2(-slip / SLIP**2 - unlike / LIKENESS**2).astype(np.float32)


@lru_cache(2)
def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return columns, rows


@cache
def opencv():
    """OpenCV's module; EditError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise EditError(
            "engine-incomplete",
            f"Frames cannot be filled or steadied by motion without OpenCV ({error}).",
            "Install the engine again, or edit every frame without it.",
        ) from error
    cv2.setNumThreads(1)
    return cv2
