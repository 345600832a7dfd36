"""Cuts are found, and nothing else is taken for one."""

import numpy as np
import pytest

from engine.clips import ArrayClip
from engine.shots import find_cuts


def picture(seed: int, height: int = 300, width: int = 900) -> np.ndarray:
    """A picture of large and small coloured blocks, without colours of its own."""
    rng = np.random.default_rng(seed)
    layers = [
        np.kron(rng.integers(0, 128, (height // size, width // size, 3)), np.ones((size, size, 1))) for size in (50, 10)
    ]
    return sum(layers).astype(np.uint8)


def pan(seed: int, frames: int, speed: float) -> np.ndarray:
    """A camera that passes over a picture, `speed` pixels of 320 a frame, with some noise."""
    whole, rng = picture(seed), np.random.default_rng(seed)
    views = [whole[20:200, int(speed * frame) : int(speed * frame) + 320] for frame in range(frames)]
    return np.clip(np.stack(views) + rng.normal(0, 3, (frames, 180, 320, 3)), 0, 255).astype(np.uint8)


def cuts(*shots: np.ndarray) -> list[int]:
    return find_cuts(ArrayClip(np.concatenate(shots)))


@pytest.mark.parametrize("speed", [0, 1, 18])
def test_shots_that_are_joined_are_found(speed):
    assert cuts(pan(1, 20, speed), pan(2, 9, speed), pan(3, 30, 1)) == [20, 29]


def test_one_frame_of_another_shot_at_either_end_is_found():
    assert cuts(pan(1, 1, 2), pan(2, 20, 2), pan(3, 1, 2)) == [1, 21]
    assert cuts(pan(1, 1, 2), pan(2, 1, 2)) == [1]
    assert cuts(pan(1, 1, 2)) == []


@pytest.mark.parametrize(
    ("lengths", "found"),
    [((20, 1, 20), [20, 21]), ((20, 2, 20), [20, 22]), ((4, 4, 4, 4), [4, 8, 12]), ((12, 2, 2, 2, 12), [])],
)
def test_a_shot_may_be_short_but_many_in_a_row_are_none(lengths, found):
    assert cuts(*(pan(seed, length, 1) for seed, length in enumerate(lengths, 1))) == found


@pytest.mark.parametrize("speed", [3, 40, 80])
def test_a_pan_is_no_cut(speed):
    assert cuts(pan(1, 7 if speed > 20 else 30, speed)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length):
    clip = pan(1, 30, 2)
    clip[12 : 12 + length] = 250
    assert cuts(clip) == []


@pytest.mark.parametrize("length", [6, 16])
def test_fades_and_dissolves_are_no_cuts(length):
    one, other = pan(1, 20 + length, 2), pan(2, 20 + length, 2)
    share = (np.arange(length) + 1)[:, None, None, None] / (length + 1)
    for under in (other, np.zeros_like(other)):
        mixed = (one[20:] * (1 - share) + under[:length] * share).astype(np.uint8)
        assert cuts(one[:20], mixed, under[length:]) == []


@pytest.mark.parametrize("held", [2, 3])
def test_drawings_that_are_held_for_some_frames_are_no_cuts(held):
    assert cuts(pan(1, 12, 30).repeat(held, axis=0)) == []


def test_shakes_and_noise_are_no_cuts():
    rng = np.random.default_rng(0)
    whole = picture(4)
    shaken = np.stack([whole[y : y + 180, x : x + 320] for y, x in rng.integers(0, 25, (30, 2))])
    assert cuts(shaken) == []
    assert cuts(rng.integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)) == []


def test_pictures_smaller_than_those_that_are_compared_do():
    dark, light = np.full((9, 8, 6, 4), 30, np.uint8), np.full((7, 8, 6, 4), 90, np.uint8)
    assert cuts(dark, light) == [9]


def test_the_clip_is_read_a_few_frames_at_a_time():
    class Watched(ArrayClip):
        most = 0

        def __getitem__(self, part):
            frames = super().__getitem__(part)
            self.most = max(self.most, len(frames))
            return frames

    clip, told = Watched(np.concatenate([pan(1, 40, 2), pan(2, 40, 2)])), []
    assert find_cuts(clip, told.append) == [40]
    assert clip.most <= 8 and told == [32, 64]
