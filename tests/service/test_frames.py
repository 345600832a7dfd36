"""Stored frames: judged by their headers at once, decoded when they are asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import EditError
from engine.service.frames import StoredClip, encode
from engine.service.store import Store


@pytest.fixture
def stored(tmp_path):
    """Puts pictures into a store and returns their paths there."""
    store = Store(tmp_path)

    def put(*pictures: np.ndarray | Image.Image) -> list[Path]:
        return [store.path("me", store.put("me", encode(np.asarray(picture)))) for picture in pictures]

    return put


def noise(seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, channels), dtype=np.uint8)


def test_any_frames_come_in_the_order_asked_for(stored):
    frames = [noise(seed) for seed in range(5)]
    clip = StoredClip(stored(*frames))
    assert clip.shape == (5, 24, 32, 3)
    assert np.array_equal(clip[1:4], np.stack(frames[1:4]))
    assert np.array_equal(clip[[4, 0, 4]], np.stack([frames[4], frames[0], frames[4]]))
    assert clip[5:9].shape == (0, 24, 32, 3)


def test_one_frame_with_alpha_gives_all_of_them_alpha(stored):
    clip = StoredClip(stored(noise(0), noise(1, channels=4)))
    assert clip.shape == (2, 24, 32, 4)
    assert (clip[:1][..., 3] == 255).all() and np.array_equal(clip[1:][0], noise(1, channels=4))


def test_the_same_frames_in_the_same_order_are_the_same_clip(stored):
    first, second = stored(noise(0), noise(1))
    assert StoredClip([first, second]).digest == StoredClip([first, second]).digest
    assert len({StoredClip(paths).digest for paths in ([first, second], [second, first], [first], [first, first])}) == 4


def test_damaged_pixels_are_found_when_they_are_decoded(stored):
    paths = stored(noise(0), noise(1))
    paths[1].write_bytes(paths[1].read_bytes()[:1000])
    clip = StoredClip(paths)
    assert len(clip[:1]) == 1
    with pytest.raises(EditError, match="Frame 2 is damaged") as caught:
        clip[1:]
    assert caught.value.code == "damaged-frame"
    paths[0].unlink()
    with pytest.raises(EditError, match="Frame 1 cannot be read") as caught:
        clip[:1]
    assert caught.value.code == "cannot-read"


def test_a_long_clip_of_large_frames_is_taken(stored):
    """Its pixels would be gigabytes; its file is small."""
    (path,) = stored(Image.new("RGB", (8192, 8192)))
    clip = StoredClip([path] * 50)
    assert clip.shape == (50, 8192, 8192, 3)


def test_a_frame_over_the_limit_is_refused_at_once(stored):
    with pytest.raises(EditError, match="8200x8 pixels") as caught:
        StoredClip(stored(Image.new("RGB", (8200, 8))))
    assert caught.value.code == "over-limit" and caught.value.remedy
