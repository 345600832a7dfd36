"""Flow, keyframes filled by it, and steadier edits, on pictures whose motion is known."""

import numpy as np
import pytest

from engine.keyframes import Edited, Filling, keyframes
from engine.motion import Between, flow, resized, warped
from engine.steady import steadied

SIDE, SPEED = 96, (3, -2)
"""Pixels right and down that the pan goes each frame."""


def texture(seed=0, side=192):
    """A picture with detail of a few pixels, in colours."""
    small = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3)).astype(np.float32)
    x, y = np.meshgrid(np.arange(side) / 4, np.arange(side) / 4)
    return warped(small, np.stack([x, y], -1).astype(np.float32) - grid(side, side)).astype(np.uint8)


def grid(height, width):
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def pan(frames, seed=0):
    """(F, SIDE, SIDE, 3): what a camera sees that goes over the texture at `SPEED`."""
    wide, (right, down) = texture(seed), SPEED
    corners = [(60 + down * number, 20 + right * number) for number in range(frames)]
    return np.stack([wide[top : top + SIDE, left : left + SIDE] for top, left in corners])


def tinted(frames):
    """An edit that moves with what it changes: red falls where it is strong."""
    edited = frames.copy()
    edited[..., 0] = 255 - edited[..., 0]
    return edited


def psnr(clip, other):
    return 10 * np.log10(255**2 / np.square(clip.astype(float) - other).mean())


def filled(source, edited, step, masks=None):
    numbers = keyframes(len(source), step)
    filling, frames = Filling(lambda number: source[number], lambda picture: picture), []
    for number in numbers:
        its = {name: mask[number] for name, mask in (masks or {}).items()}
        frames += filling.until(Edited(number, edited[number], its))
    assert [frame.number for frame in frames] == list(range(len(source))), "in their order, each once"
    return frames


def pictures(frames):
    return np.stack([frame.levels for frame in frames])


def test_flow_is_the_pans_own_and_what_leaves_the_picture_is_not_trusted():
    before, after = pan(2)
    motion = Between(before, after)
    assert (
        np.abs(np.median(motion.there, (0, 1)) + SPEED).max()
        < 0.05
        > np.abs(np.median(motion.back, (0, 1)) - SPEED).max()
    )
    assert np.median(motion.trust[8:-8, 8:-8]) > 0.9
    assert motion.trust[:, :2].mean() < 0.5 and motion.trust_back[:, -2:].mean() < 0.5
    strange = Between(before, texture(7)[:SIDE, :SIDE])
    assert strange.trust.mean() < 0.2


def test_flow_of_another_size_leads_to_the_same_places():
    ways = resized(flow(*pan(2)), (2 * SIDE, 3 * SIDE))
    assert ways.shape == (2 * SIDE, 3 * SIDE, 2)
    assert np.abs(np.median(ways, (0, 1)) + np.multiply(SPEED, (3, 2))).max() < 0.15


def test_keyframes_are_every_so_manieth_and_the_last():
    assert keyframes(9, 4) == [0, 4, 8] and keyframes(8, 3) == [0, 3, 6, 7]
    assert keyframes(1, 2) == [0] and keyframes(3, 5) == [0, 2] and keyframes(3, 1) == [0, 1, 2]


@pytest.mark.parametrize("step", [2, 4])
def test_a_pan_is_filled_as_it_would_have_been_edited(step):
    source = pan(9)
    edited = tinted(source)
    frames = pictures(filled(source, edited, step))
    assert np.array_equal(frames[::step], edited[::step]), "keyframes stay as they are"
    between = [number for number in range(9) if number % step]
    held = edited[[number - number % step for number in between]]
    assert psnr(frames[between], edited[between]) > 30
    assert psnr(held, edited[between]) < 20


def test_masks_of_any_size_move_with_the_picture():
    source = pan(5)
    mask = np.zeros((5, SIDE, SIDE), np.uint8)
    for number in range(5):
        mask[number, 40 - 2 * -number :][:20, 40 - 3 * number :][:, :20] = 255
    small = mask[:, ::2, ::2].copy()
    frames = filled(source, source, 4, {"large": mask, "small": small})
    for name, truth in (("large", mask), ("small", small)):
        found = np.stack([frame.masks[name] for frame in frames])
        assert found.shape == truth.shape and np.array_equal(found[[0, 4]], truth[[0, 4]])
        assert np.abs(found.astype(int) - truth).mean() < 2 < np.abs(truth[:1].astype(int) - truth[1:4]).mean()


def test_after_a_cut_frames_take_from_their_own_shot():
    source = np.concatenate([pan(3), pan(3, seed=5)])
    edited = source.copy()
    edited[:3] = edited[:3] // 2
    edited[3:] = 128 + edited[3:] // 2
    frames = pictures(filled(source, edited, 5))  # keyframes 0 and 5, and the cut before 3
    assert psnr(frames, edited) > 25
    assert psnr(frames[2], edited[2]) > 22 < psnr(frames[3], edited[3]), "each side of the cut"


def flickering(edited, strength=12):
    """Other light in each frame, and grain of a few pixels that does not move with anything."""
    random = np.random.default_rng(3)
    light = random.normal(0, strength, (len(edited), 1, 1, 3))
    grain = np.stack([texture(seed, SIDE) for seed in range(20, 20 + len(edited))]).astype(float) - 127.5
    return (edited + light + grain * strength / 64).round().clip(0, 255).astype(np.uint8)


def steady(source, edited, beside):
    numbered, frames = list(steadied(enumerate(edited), lambda number: source[number], beside)), []
    for number, picture in numbered:
        assert number == len(frames)
        frames.append(picture)
    return np.stack(frames)


def test_flicker_falls_and_the_edit_stays():
    source = pan(9)
    edited = tinted(source) // 2 + 64
    shaky = flickering(edited)
    errors = [np.square(steady(source, shaky, beside).astype(float) - edited).mean() for beside in (1, 2, 4)]
    before = np.square(shaky.astype(float) - edited).mean()
    assert before / 1.8 > errors[0] > errors[1] > errors[2] and errors[2] < before / 3


def test_what_is_steady_already_stays_as_it_is():
    source = pan(5)
    assert np.array_equal(steady(source, source, 2), source), "nothing is changed, and so nothing is added"
    edited = np.where(source > 235, source, source + 20)  # the same change all over, but for the brightest
    assert np.abs(steady(source, edited, 2).astype(int) - edited).mean() < 1


def test_what_is_edited_quite_otherwise_beside_is_not_mixed_in():
    """A new shape that goes its own way over a clip that stands still."""
    source = np.repeat(pan(1), 5, axis=0)
    edited = source.copy()
    for number, frame in enumerate(edited):
        frame[20:50, 10 + 12 * number : 30 + 12 * number] = (250, 0, 250)
    ghosts = np.abs(steady(source, edited, 2).astype(int) - edited) > 40
    assert ghosts.mean() < 0.005, "without this they are a tenth of the picture"


def test_another_shot_is_no_neighbour():
    source = np.concatenate([pan(2), pan(2, seed=5)])
    edited = source.copy()
    edited[2:] //= 2
    assert (
        np.abs(steady(source, edited, 2).astype(int) - edited).mean()
        < 4
        < np.abs(source.astype(int) - edited).mean() / 4
    )
