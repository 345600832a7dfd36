"""The source's own pixels outside the blend words' place: its bytes far away, the edit's inside, a slope between."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from engine.editing import Editor
from engine.fatezero.background import edited_share, lay_over
from engine.fatezero.refined import grown
from engine.geometry import Geometry
from protocol.settings import apply_preset

SIDE, CELL = 512, 32
"""Of the strip's frames, twice the model's, and of a cell of the masks' grid in them."""
THRESHOLD = 0.9


@pytest.fixture(scope="module")
def finer(small_checkpoint) -> Editor:
    """The tiny checkpoint, made for pictures of 256 x 256, so that its masks have 16 x 16 cells."""
    editor = Editor.load(str(small_checkpoint), device="cpu", precision="float32")
    editor.checkpoint.image_side = SIDE // 2
    return editor


def clip(frames=3) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(100, 140, (frames, SIDE, SIDE, 4), dtype=np.uint8)
    for number, frame in enumerate(pixels):
        frame[100:180, 100 + 40 * number : 200 + 40 * number, :3] = (250, 20, 20)
    return pixels


def asked(**changes):
    alone = dict(blend_target=(), blend_latents=False, blend_attention=True, mask="paper", keep_background=False)
    changes = alone | dict(steps=2, blend_source=("cube",), blend_threshold=THRESHOLD, mask_words=("cube",)) | changes
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **changes)


def near(cells: np.ndarray, by: int) -> np.ndarray:
    """(F, rows, columns): cells, frames too, that lie no more than `by` from one of these."""
    size = 2 * by + 1
    grown = torch.nn.functional.max_pool3d(torch.from_numpy(cells)[None].float(), size, stride=1, padding=by)[0]
    return grown.bool().numpy()


def pixels(cells: np.ndarray) -> np.ndarray:
    return cells.repeat(CELL, 1).repeat(CELL, 2)


def test_far_from_the_words_are_the_sources_bytes_and_inside_the_edits(finer):
    source, plain = clip(), finer.edit(clip(), asked())
    result = finer.edit(clip(), asked(keep_background=True))
    assert np.array_equal(result.masks["cube"], plain.masks["cube"])
    assert np.array_equal(result.frames[..., 3], source[..., 3])
    soft = plain.masks["cube"][:, CELL // 2 :: CELL, CELL // 2 :: CELL] / 255  # as an enlarged mask has it at a cell
    inside, maybe = pixels(soft > THRESHOLD + 0.02), soft > THRESHOLD - 0.02
    far = pixels(~near(maybe, 3))
    assert inside.mean() > 0.02 and far.mean() > 0.2, "both are a good part of the picture"
    assert np.array_equal(result.frames[inside], plain.frames[inside])
    assert np.array_equal(result.frames[far], source[far])
    assert (plain.frames[far] != source[far]).any(-1).mean() > 0.9, "the edit alone changes it there"
    lower, upper = np.minimum(source, plain.frames), np.maximum(source, plain.frames)
    assert ((lower <= result.frames) & (result.frames <= upper)).all()


def test_the_target_words_own_place_is_the_edits_too(finer):
    alone, both = (
        finer.edit(clip(), asked(keep_background=True, blend_target=words)).frames for words in ((), ("cube",))
    )
    kept_alone, kept = ((frames == clip()).all(-1) for frames in (alone, both))
    assert (kept <= kept_alone).all() and 0.1 < kept.mean() < kept_alone.mean()


@pytest.mark.parametrize("words", [(), ("cube",)])
def test_a_refined_mask_keeps_the_source_to_the_edge_of_what_it_shows(finer, words):
    """Of the words alone: all of the edit inside, the source's bytes two latents on."""
    source, settings = clip(2), asked(mask="refined", blend_target=words)
    shown = finer.edit(source, settings).masks["cube"] / 255
    threshold = float(np.quantile(shown, 0.98))
    settings = replace(settings, blend_threshold=threshold)
    plain, result = finer.edit(source, settings), finer.edit(source, replace(settings, keep_background=True))
    inside = shown > threshold + 0.01
    far = ~grown(torch.from_numpy(shown > threshold - 0.01)[:, None], 2 * SIDE // 32)[:, 0].numpy()
    assert inside.any() and far.mean() > 0.1
    assert np.array_equal(result.frames[inside], plain.frames[inside])
    kept = (result.frames[far] == source[far]).all(-1).mean()
    assert kept == 1 if not words else kept < 1
    assert (plain.frames[far] == source[far]).all(-1).mean() < 0.1, "the edit alone changes it there"


@pytest.mark.parametrize("mask", ["paper", "refined"])
@pytest.mark.parametrize("words", [(), ("cube",)])
def test_chunks_give_the_same_frames(finer, words, mask):
    settings = asked(keep_background=True, blend_target=words, mask=mask)
    whole, parted = (finer.edit(clip(), settings, memory_share=share).frames for share in (1.0, 1e-9))
    assert abs(whole.astype(int) - parted).max() <= 2, "a level's rounding, enlarged"


def test_maps_that_are_gathered_for_the_background_change_nothing_in_the_edit(finer):
    words = dict(blend_source=("cube",), blend_target=("cube",), blend_threshold=0.0)  # all the picture is in the mask
    plain, kept = (finer.edit(clip(), asked(keep_background=keep, **words)).frames for keep in (False, True))
    assert np.array_equal(plain, kept)


def test_the_share_covers_the_mask_and_falls_evenly_to_nothing():
    cells = torch.zeros(9, 1, 16, 16, dtype=torch.bool)
    cells[4, 0, 8, 8] = True
    nothing = torch.zeros_like(cells)
    share = edited_share([cells, nothing])
    assert torch.equal(share, edited_share([nothing, cells]))
    masks = Geometry((SIDE, SIDE), (256, 256), (256, 256)).to_masks(share)
    white, black = np.full((9, SIDE, SIDE, 3), 255, np.uint8), np.zeros((9, SIDE, SIDE, 3), np.uint8)
    shown = lay_over(black, white, masks)[..., 0].astype(int)
    begin, end, middle = 8 * CELL, 9 * CELL, 8 * CELL + CELL // 2
    assert (shown[4, begin:end, begin:end] == 255).all()
    row = shown[4, middle]
    assert (np.diff(row[middle:]) <= 0).all() and (np.diff(row[:middle]) >= 0).all()
    assert abs(np.diff(row)).max() <= 255 // (CELL // 2), "soft: a slope of a cell"
    assert not row[: begin - 2 * CELL].any() and not row[end + 2 * CELL :].any()
    through_time = shown[:, middle, middle]
    assert (np.diff(through_time[4:]) <= 0).all() and (np.diff(through_time[:5]) >= 0).all()
    assert through_time[4] == 255 and not through_time[[0, 8]].any() and 0 < through_time[2] < 255


def test_without_a_mask_the_frames_are_the_sources(finer):
    settings = asked(keep_background=True, blend_threshold=1.0, mask_words=())
    assert np.array_equal(finer.edit(clip(), settings).frames, clip())
