"""Masks without an edit, previews without the autoencoder, and what the model says of a prompt."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine import previews
from engine.editing import Editor, Keep
from engine.fatezero.masks import blend_mask, soft_mask
from engine.geometry import Geometry
from engine.keeping import KeptInversion
from engine.previews import LatentColours
from engine.reconstruction import HARDLY, WELL, Reconstruction
from engine.soft_masks import small
from protocol.messages import SoftMask
from protocol.settings import apply_preset, for_masks

pytestmark = pytest.mark.usefixtures("one_thread")


def clip(frames=3, height=64, width=64):
    return np.random.default_rng(3).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def asked(**changes):
    changes = {"steps": 4} | changes
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **changes)


@pytest.fixture
def keep(tmp_path) -> Keep:
    return Keep(tmp_path / "cache", tmp_path / "jobs" / "one")


def survey(editor, frames, settings, **more) -> tuple[dict[SoftMask, np.ndarray], list]:
    """All masks, and the stages that were told."""
    parts, stages = [], []
    editor.survey(
        frames, settings, lambda progress: stages.append(progress.stage), write=lambda *part: parts.append(part), **more
    )
    assert [start for start, _ in parts] == list(range(0, len(frames), 32))
    return {which: np.concatenate([masks[which] for _, masks in parts]) for which in parts[0][1]}, stages


def test_a_threshold_on_a_soft_mask_is_the_methods_hard_mask(editor: Editor, keep):
    """But for cells at the border, where the soft mask is interpolated and the method's has corners."""
    masks, _ = survey(editor, clip(), asked(mask="paper"), keep=keep)
    (folder,) = (keep.cache / "inversions").iterdir()
    inversion = KeptInversion(keep, folder.name)
    maps = sum(inversion.maps[step][:] for step in range(4)) / 4
    assert [which.word for which in masks] == ["a", "red", "cube", "on", "grass"]
    geometry = editor.geometry(clip())
    assert geometry.content == geometry.padded == (64, 64)
    grid, cell = editor.grid(geometry), 2
    for which, mask in masks.items():
        tokens = editor_positions(editor, which.word)
        at_cells = torch.from_numpy(mask).float()[:, None]
        assert mask.shape[1:] == (grid[0] * cell, grid[1] * cell)
        soft = soft_mask(maps, tokens, grid, grid)
        enlarged = functional.interpolate(soft, size=mask.shape[1:], mode="bilinear")
        assert (at_cells / 255 - enlarged).abs().max() <= 0.5 / 255 + 1e-5
        for threshold in (0.3, 0.5, 0.8):
            hard = blend_mask(maps, tokens, grid, mask.shape[1:], threshold).float()
            inside = -functional.max_pool2d(-hard, 3, 1, 1) == 1
            outside = functional.max_pool2d(hard, 3, 1, 1) == 0
            assert (at_cells[inside] > 255 * threshold - 0.5).all()
            assert (at_cells[outside] <= 255 * threshold + 0.5).all()


def editor_positions(editor, word):
    from engine.models.text import read_prompt

    return read_prompt(editor.checkpoint, asked().source).positions([word])


@pytest.mark.parametrize("mask", ["paper", "refined"])
def test_an_edits_soft_masks_are_those_of_the_survey(editor: Editor, mask):
    masks, stages = survey(editor, clip(), asked(mask=mask))
    assert set(stages) == {"encode", "invert"}
    nowhere = dict(blend_source=(), blend_target=(), blend_latents=False)  # so that there is no blend mask
    result = editor.edit(clip(), asked(mask_words=("cube", "red"), mask=mask, **nowhere))
    assert list(result.soft_masks) == [
        SoftMask(word="cube", kind="word", index=2),
        SoftMask(word="red", kind="word", index=1),
    ]
    for which, soft in result.soft_masks.items():
        assert np.array_equal(soft, masks[which])
    side = 64 if mask == "refined" else 64 // editor.checkpoint.factor
    assert {picture.shape for picture in masks.values()} == {(3, side, side)}
    assert {word: whole.shape for word, whole in result.masks.items()} == {"cube": (3, 64, 64), "red": (3, 64, 64)}


def test_an_edit_goes_on_from_a_surveys_inversion_and_a_survey_from_an_edits(editor: Editor, keep):
    plain = editor.edit(clip(), asked()).frames
    first, stages = survey(editor, clip(), asked(word_weights={}), keep=keep)
    assert {"encode", "invert"} == set(stages)
    seen = []
    job = Keep(keep.cache, keep.job.with_name("two"))
    result = editor.edit(clip(), asked(), lambda progress: seen.append((progress.stage, progress.step)), keep=job)
    assert np.array_equal(result.frames, plain)
    assert {stage for stage, _ in seen} == {"edit", "decode"}
    again, stages = survey(editor, clip(), asked(), keep=Keep(keep.cache, keep.job.with_name("three")))
    assert stages == [] and all(np.array_equal(first[which], mask) for which, mask in again.items())


def test_a_damaged_step_is_made_anew(editor: Editor, keep):
    first, _ = survey(editor, clip(), asked(), keep=keep)
    (folder,) = (keep.cache / "inversions").iterdir()
    (folder / "maps-0002").write_bytes(b"other bytes")
    again, stages = survey(editor, clip(), asked(), keep=keep)
    assert "invert" in stages and "encode" not in stages
    assert all(np.array_equal(first[which], mask) for which, mask in again.items())


def test_only_what_decides_the_inversion_counts_for_masks():
    settings = asked(steps=7, keys=("first",), precision="float32", blend_source=("cube",), own_mask="add")
    alone = for_masks(settings)
    assert (alone.source, alone.target) == (settings.source, settings.source)
    assert (alone.steps, alone.keys, alone.precision) == (7, ("first",), "float32")
    assert (alone.blend_source, alone.own_mask, alone.word_weights, alone.mask_words) == ((), "", {}, ())


def test_words_are_told_with_their_tokens_and_what_was_cut(editor: Editor):
    long = "a cube" + " and" * 90 + " grass"
    masks, _ = survey(editor, clip(1), for_masks(apply_preset("reconstruct", long, long, steps=1)))
    result = editor.edit(clip(1), asked(steps=1))
    assert [(seen.word, seen.cut) for seen in result.words] == [
        (word, False) for word in ("a", "red", "cube", "on", "grass")
    ]
    assert all(seen.tokens >= 1 for seen in result.words)
    assert [which.word for which in masks] == ["a", "cube", "and"], "no mask of what the model never sees"
    seen = editor.survey(clip(1), apply_preset("reconstruct", long, long, steps=1), write=lambda *_: None)
    assert len(seen.words) == 93 and seen.words[-1].cut and seen.words[-1].tokens == 0
    assert sum(word.tokens for word in seen.words) == 75
    assert len(seen.notes) == 1, "the prompt is one"


def test_a_word_that_the_tokenizer_spells_is_told_from_one_that_it_has():
    builtin = Editor.load("builtin", device="cpu")
    result = builtin.survey(
        clip(1), apply_preset("reconstruct", "a red, xylophone", "", steps=1), write=lambda *_: None
    )
    assert [(seen.word, seen.in_pieces) for seen in result.words] == [
        ("a", False),
        ("red,", False),
        ("xylophone", True),
    ]


def test_a_small_mask_covers_the_frame_alone():
    geometry = Geometry((200, 100), (90, 45), (96, 64))
    soft = torch.zeros(1, 1, 64, 96)
    left, top = (96 - 90) // 2, (64 - 45) // 2
    soft[..., top : top + 45, left : left + 45] = 1.0
    mask = small(soft, geometry, factor=8)
    assert mask.shape == (1, 6, 11)
    assert (mask[0, :, :5] == 255).all() and (mask[0, :, 6:] == 0).all()


def test_a_linear_decoder_is_found():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 12, 20, generator=generator)
    kernel = torch.randn(12, 4, 3, 3, generator=generator) * 0.05
    around = functional.pad(latents, (1, 1, 1, 1), mode="replicate")
    pictures = functional.pixel_shuffle(functional.conv2d(around, kernel), 2) + 0.1
    colours = LatentColours(latents, functional.interpolate(pictures, scale_factor=4))
    assert colours.scale == 8, "as fine as the pictures"
    shown = functional.avg_pool2d(colours(latents), 4)
    assert (shown - pictures).std() < 0.25 * pictures.std()


def test_a_clip_of_one_colour_has_a_map_too():
    colours = LatentColours(torch.ones(1, 4, 8, 8), torch.full((1, 3, 64, 64), 0.25))
    assert (colours(torch.ones(1, 4, 8, 8)) - 0.25).abs().max() < 0.01
    assert colours(torch.full((1, 4, 8, 8), 2.0)).abs().max() < 2


@pytest.fixture
def at_every_step(monkeypatch):
    monkeypatch.setattr(previews, "EVERY", 0.0)
    monkeypatch.setattr(previews, "SHARE", float("inf"))


def test_a_preview_shows_eight_frames_over_the_clip(editor: Editor, at_every_step):
    shown = []
    editor.edit(clip(11, 48, 72), asked(steps=2), preview=shown.append)
    assert [(preview.step, preview.steps) for preview in shown] == [(1, 2), (2, 2)]
    assert shown[0].frames == [0, 1, 3, 4, 6, 7, 9, 10]
    assert shown[0].pictures.shape == (8, 43, 64, 3) and shown[0].pictures.dtype == np.uint8


def test_a_preview_is_near_what_the_edit_comes_to(at_every_step):
    rows, columns = np.mgrid[:96, :128]
    frames = np.full((2, 96, 128, 3), (150, 180, 220), np.uint8)
    frames[:, 60:] = (190, 170, 130)
    for number, frame in enumerate(frames):
        frame[np.hypot(rows - 55, columns - 40 - 30 * number) < 20] = (200, 30, 30)
    shown, source = [], "a red sphere on sand under a day sky"
    edited = (
        Editor.load("builtin", device="cpu")
        .edit(frames, apply_preset("reconstruct", source, "", steps=4), preview=shown.append)
        .frames.astype(float)
    )
    difference = (shown[-1].pictures - edited) ** 2
    assert shown[-1].pictures.shape == (2, 96, 128, 3)
    assert difference.mean() < 0.2 * edited.var(axis=(0, 1, 2)).mean()
    assert np.corrcoef(shown[-1].pictures.ravel(), edited.ravel())[0, 1] > 0.9


def test_previews_change_nothing_and_come_seldom(editor: Editor, monkeypatch):
    monkeypatch.setattr(previews, "EVERY", 3600.0)
    shown = []
    seen = editor.edit(clip(), asked(), preview=shown.append).frames
    assert np.array_equal(seen, editor.edit(clip(), asked()).frames)
    assert [preview.step for preview in shown] == [1]


def test_a_reconstruction_says_how_well_the_model_knows_the_clip(editor: Editor):
    result = editor.edit(clip(), apply_preset("reconstruct", "a red cube", "", steps=2))
    (note,) = result.notes
    assert "PSNR of" in note and "hardly knows it" in note
    assert editor.edit(clip(), asked()).notes == []


@pytest.mark.parametrize(
    ("decibels", "words"), [(WELL + 1, "knows it well"), (WELL - 1, "so-so"), (HARDLY - 1, "hardly knows it")]
)
def test_the_score_is_the_signal_to_noise_ratio(decibels, words):
    score, source = Reconstruction(), torch.zeros(2, 3, 8, 8)
    score.compare(source[:1], source[:1] + 2 * 10 ** (-decibels / 20))
    score.compare(source[1:], source[1:] - 2 * 10 ** (-decibels / 20))
    assert score.decibels == pytest.approx(decibels) and words in score.note()
    assert f"{decibels:.1f} dB" in score.note()
