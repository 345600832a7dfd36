"""Edits whose frames are filled by motion or steadied, through the editor, on the tiny checkpoint."""

import numpy as np
import pytest

from engine.editing import EditError, Editor, Keep
from engine.keyframes import keyframes
from engine.parts import Part, can_be_parted
from protocol.settings import SettingsError, apply_preset
from tests.engine.test_motion import psnr, texture

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, STEP = 8, 3
CHOSEN = [0, 3, 6, 7]
LOCAL = dict(blend_source=("cube",), blend_target=("cube",), keep_background=True, blend_threshold=0.8)


def clip(frames=FRAMES, channels=4):
    """A pan of 64 x 48 pixels, and an alpha that is another one in each frame."""
    wide = texture()
    seen = np.stack([wide[40 : 40 + 48, 10 + 2 * n : 10 + 2 * n + 64] for n in range(frames)])
    alpha = np.arange(frames, dtype=np.uint8)[:, None, None, None] + np.full((1, 48, 64, 1), 100, np.uint8)
    return np.concatenate([seen, alpha], -1)[..., :channels]


def settings(**changes):
    changes = dict(steps=2, keyframe_step=STEP, mask_words=("cube",)) | changes
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **changes)


@pytest.fixture(scope="module")
def whole(editor):
    return editor.edit(clip(), settings())


def test_the_model_edits_keyframes_as_a_clip_of_their_own(editor, whole):
    alone = editor.edit(clip()[CHOSEN], settings(keyframe_step=1))
    assert keyframes(FRAMES, STEP) == CHOSEN
    assert whole.frames.shape == clip().shape and np.array_equal(whole.frames[CHOSEN], alone.frames)
    assert np.array_equal(whole.frames[..., 3], clip()[..., 3]), "alpha is each frame's own"
    for ours, theirs in ((whole.masks, alone.masks), (whole.soft_masks, alone.soft_masks)):
        assert ours.keys() == theirs.keys() and ours
        assert all(len(ours[word]) == FRAMES and np.array_equal(ours[word][CHOSEN], theirs[word]) for word in ours)


def test_frames_between_are_like_their_keyframes_moved(whole):
    """The camera goes two pixels a frame, so that what a frame shows lies two pixels further left than before."""
    for number in (1, 4):
        before, now = whole.frames[number - 1, :, 2:, :3], whole.frames[number, :, :-2, :3]
        still = whole.frames[number, :, 2:, :3]
        assert psnr(before, now) > psnr(before, still) + 1


def test_frames_are_written_in_their_order_and_previews_name_them(editor):
    written, shown = [], []
    editor.edit(
        clip(),
        settings(),
        write=lambda start, frames, masks: written.append((start, len(frames), {len(mask) for mask in masks.values()})),
        preview=shown.append,
    )
    assert written == [(number, 1, {1}) for number in range(FRAMES)]
    assert shown and all(preview.frames == CHOSEN for preview in shown)


@pytest.mark.parametrize("changes", [dict(), dict(steady=1), dict(keyframe_step=1, steady=2)])
def test_it_does_not_matter_how_many_frames_are_decoded_at_once(editor, changes, monkeypatch):
    """But for the last bits of the decoder, which may round a level to the next."""
    frames = editor.edit(clip(), settings(**changes)).frames
    monkeypatch.setattr(Editor, "autoencoded_at_once", lambda *_: 1)
    assert np.abs(editor.edit(clip(), settings(**changes)).frames.astype(int) - frames).max() <= 1


@pytest.mark.parametrize("changes", [dict(), dict(keyframe_step=1, steady=2)])
def test_far_from_the_words_all_frames_are_the_sources_bytes(editor, changes):
    result = editor.edit(clip(), settings(**LOCAL, **changes))
    taken = next(mask for word, mask in result.soft_masks.items() if word.kind == "blend")
    own = np.zeros(clip().shape[:3], np.uint8)
    nothing = editor.edit(clip(), settings(**LOCAL, own_mask="limit", **changes), own_masks=own)
    assert taken.max() > 0 and np.array_equal(nothing.frames, clip())
    own[5, 10:20, 10:20] = 255  # of a frame that is filled: its own mask is taken, not its keyframes'
    some = editor.edit(clip(), settings(**LOCAL, own_mask="replace", **changes), own_masks=own)
    changed = (some.frames != clip()).any(-1)
    assert changed[5, 10:20, 10:20].mean() > 0.5 and changed.sum() == changed[5, 10:20, 10:20].sum()


def test_an_ended_edit_goes_on_in_the_same_bits(editor, whole, tmp_path):
    class Ended(Exception):
        pass

    def end(progress):
        if (progress.stage, progress.step) == at:
            raise Ended

    keep = Keep(tmp_path / "cache", tmp_path / "job")
    for at in (("invert", 1), ("edit", 1), ("decode", 4)):
        with pytest.raises(Ended):
            editor.edit(clip(), settings(), end, keep=keep)
    again = editor.edit(clip(), settings(), keep=keep)
    assert np.array_equal(again.frames, whole.frames)


def test_steadied_edits_flicker_less(editor):
    """The random checkpoint edits each frame of a still clip otherwise only by its place to the key frame: add noise."""
    noise = np.random.default_rng(0).integers(-20, 21, clip().shape)
    still = (clip()[:1].astype(int) + noise).clip(0, 255).astype(np.uint8)
    plain, steady = (
        editor.edit(still[..., :3], settings(keyframe_step=1, steady=beside)).frames.astype(float) for beside in (0, 3)
    )
    assert np.abs(np.diff(steady, axis=0)).mean() < np.abs(np.diff(plain, axis=0)).mean()


def test_parts_of_such_an_edit_are_refused(editor):
    assert not can_be_parted(settings()) and can_be_parted(settings(keyframe_step=1))
    with pytest.raises(EditError) as error:
        editor.edit(clip(), settings(), part=Part(0, 4))
    assert error.value.code == "needs-whole-clip"


@pytest.mark.parametrize("changes", [dict(keyframe_step=0), dict(keyframe_step=25), dict(steady=-1), dict(steady=9)])
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(SettingsError, match=next(iter(changes))):
        settings(**changes)


def test_clips_shorter_than_a_step_and_single_frames(editor):
    for frames in (1, 2):
        result = editor.edit(clip(frames), settings(steps=1, steady=2))
        assert result.frames.shape == clip(frames).shape
