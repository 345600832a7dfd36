"""The user's own mask: what it does to that of the words, in the method's steps and in an edit's pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.editing import EditError, Editor
from engine.fatezero.masks import OwnMask, blend_mask, combined
from engine.fatezero.method import Blend
from engine.fatezero.schedule import Schedule
from engine.geometry import Geometry
from engine.own_masks import ArrayMasks, for_latents
from protocol.settings import OWN_MASKS, apply_preset
from tests.engine.test_method import Edit

MODES = pytest.mark.parametrize("mode", OWN_MASKS)


@pytest.fixture(scope="module")
def small_edit(model, unet, read, embedding) -> Edit:
    return Edit(model, unet, read, embedding)


@pytest.fixture(scope="module")
def left() -> torch.Tensor:
    """(F, 1, h, w) in levels: the left half."""
    levels = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
    levels[..., :8] = 255
    return levels


def expected(words: torch.Tensor, own: torch.Tensor, mode: str) -> torch.Tensor:
    return {"replace": own, "limit": words & own, "add": words | own, "subtract": words & ~own}[mode]


@MODES
def test_masks_and_levels_are_combined_alike(mode):
    words, own = torch.tensor([False, False, True, True]), torch.tensor([False, True, False, True])
    both = expected(words, own, mode)
    assert torch.equal(combined(words, own, mode), both)
    assert torch.equal(combined(words.byte() * 255, own.byte() * 255, mode), both.byte() * 255)


def test_more_than_half_of_a_cell_makes_it_the_masks():
    levels = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    levels[..., :2, :2], levels[..., 2:, 0] = 255, 255  # a whole cell of the next level, and half of one
    words = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert OwnMask("replace", levels).over(words)[0, 0].tolist() == [[True, False], [False, False]]


@MODES
def test_latents_are_the_sources_outside_of_it(small_edit, left, mode):
    """After each step that blends latents, at the same noise level (`replace`: whatever the words see)."""
    own = OwnMask(mode, left)
    blend = Blend(("jeep",), ("jeep",), 0.4, latents=True, own=own)
    steps = small_edit.steps
    blended = [state for state in small_edit.run(blend=blend) if state.latent_masks]
    plain = [state for state in small_edit.run(blend=replace(blend, own=None)) if state.latent_masks]
    assert len(blended) == len(plain) >= 2
    first, without = blended[0], torch.stack(plain[0].latent_masks).any(0)
    if mode in ("replace", "limit", "subtract"):  # up to the first blending, `attention` is all that differs
        (mask,) = first.latent_masks
        assert (mask <= expected(torch.ones_like(without), left > 127, mode)).all()
    for state in blended:
        (mask,) = state.latent_masks
        outside = ~mask.expand_as(state.latents)
        source = small_edit.inversion.latents[steps - 1 - state.step]
        assert torch.equal(state.latents[outside], source[outside])
        assert (state.latents != source)[~outside].float().mean() > 0.9 or not mask.any()
        if mode == "replace":
            assert torch.equal(mask, left > 127)


def test_without_words_shape_is_kept_everywhere_and_all_may_change_but_for_the_mask(small_edit, left):
    inside = small_edit.run(blend=Blend((), latents=True, own=OwnMask("limit", left)))
    outside = small_edit.run(blend=Blend((), latents=True, own=OwnMask("subtract", left)))
    for states, mask in ((inside, left > 127), (outside, left <= 127)):
        masked = [state.latent_masks[0] for state in states if state.latent_masks]
        assert masked and all(torch.equal(found, mask) for found in masked)
    kept = small_edit.run(blend=Blend((), own=OwnMask("limit", left)))[-1].latents
    assert torch.equal(kept, small_edit.run()[-1].latents), "self-attention is injected as without any mask"


def test_a_mask_of_everything_frees_the_shape_and_one_of_nothing_keeps_it(small_edit, left):
    def last(levels):
        return small_edit.run(blend=Blend((), own=OwnMask("replace", levels)))[-1].latents

    free = small_edit.run(self_window=(0.0, 0.0))[-1].latents
    torch.testing.assert_close(last(torch.full_like(left, 255)), free, rtol=1e-4, atol=1e-4)
    assert torch.equal(last(torch.zeros_like(left)), small_edit.run()[-1].latents)
    assert (last(left) - free).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_parts_of_a_clip_come_to_what_the_whole_comes_to(small_edit, left, chunk):
    left = left.clone()
    left[1] = 255 - left[1]  # no frame's is another's
    blend = Blend(("jeep",), ("jeep",), 0.4, latents=True, own=OwnMask("limit", left))
    whole, parted = small_edit.run(blend=blend)[-1], small_edit.run(blend=blend, chunk=chunk)[-1]
    assert float((whole.latents - parted.latents).norm() / whole.latents.norm()) <= 1e-5
    assert torch.equal(whole.masked, parted.masked)


def test_the_mask_that_is_shown_counts_the_steps_that_it_left_to_the_edit(small_edit):
    blend = Blend(("jeep",), threshold=0.4)
    states = small_edit.run(blend=blend, self_window=(0.0, 0.6))
    (span,) = {tuple(small_edit.source.positions(["jeep"]))}
    counts = sum(
        blend_mask(small_edit.inversion.maps[small_edit.steps - 1 - step], span, (4, 4), (16, 16), 0.4).short()
        for step in range(3)
    )
    assert torch.equal(states[-1].masked, counts) and 0 < counts.float().mean() < 3
    assert torch.equal(small_edit.run(resume=states[1], blend=blend, self_window=(0.0, 0.6))[-1].masked, counts)


def test_the_prediction_of_the_frames_that_are_watched_comes_with_each_step(small_edit):
    from engine.fatezero.method import EditPlan, edit

    plan = EditPlan(small_edit.source, small_edit.target, guidance=1.0)
    what = small_edit.inversion, plan, small_edit.embeddings, small_edit.temporal
    schedule: Schedule = small_edit.schedule
    wanted = iter([(), (0, 2), (1,), (), (2,)])
    states = list(edit(small_edit.unet, schedule, *what, chunk=2, watched=lambda: next(wanted)))
    assert [sorted(state.clean) for state in states] == [[], [0, 2], [1], [], [2]]
    # Of two latents on one line of DDIM's, the noisier one is made of the prediction and the noise between.
    before, after, (high, low) = states[0].latents, states[1].latents, schedule.timesteps[1:3]
    a, b = schedule.alpha(high), schedule.alpha(high - schedule.spacing)
    assert low == high - schedule.spacing
    for frame in (0, 2):
        clean = states[1].clean[frame]
        noise = (before[frame] - a**0.5 * clean) / (1 - a) ** 0.5
        torch.testing.assert_close(b**0.5 * clean + (1 - b) ** 0.5 * noise, after[frame], rtol=1e-3, atol=1e-3)


def test_masks_go_where_their_frames_go():
    geometry = Geometry.fit(200, 100, area=64 * 64, step=32)
    assert geometry.padded != geometry.content
    masks = np.zeros((3, 100, 200), np.uint8)
    masks[:, :, :100] = 255
    own = for_latents("add", ArrayMasks(masks), geometry, (geometry.padded[1] // 8, geometry.padded[0] // 8), 2)
    assert own.levels.shape == (3, 1, geometry.padded[1] // 8, geometry.padded[0] // 8)
    middle = own.levels.shape[-1] // 2
    assert (own.levels[..., : middle - 1] == 255).all() and (own.levels[..., middle + 1 :] == 0).all()


def clip(channels=3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (2, 48, 64, channels), dtype=np.uint8)


def asked(**changes):
    changes = {"steps": 3} | changes
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **changes)


@pytest.fixture
def circle() -> np.ndarray:
    """A soft-edged mask in the frames' size: finer than any of the model's cells."""
    rows, columns = np.mgrid[:48, :64]
    distance = np.hypot(rows - 24, columns - 30)
    return np.clip((12 - distance) * 64, 0, 255).astype(np.uint8)[None].repeat(2, 0)


def test_the_background_is_kept_to_the_own_masks_very_pixel(editor: Editor, circle):
    no_words = dict(
        blend_source=(), blend_target=(), blend_latents=False
    )  # what the place of words lets change is not in question
    plain = editor.edit(clip(), asked(**no_words)).frames
    limited = editor.edit(clip(), asked(own_mask="limit", keep_background=True, **no_words), own_masks=circle)
    assert np.array_equal(limited.frames[circle == 0], clip()[circle == 0])
    assert np.array_equal(limited.frames[circle == 255], plain[circle == 255])
    saved = editor.edit(clip(), asked(own_mask="subtract", keep_background=True, **no_words), own_masks=circle).frames
    assert np.array_equal(saved[circle == 255], clip()[circle == 255])
    assert np.array_equal(saved[circle == 0], plain[circle == 0])
    ((which, shown),) = limited.soft_masks.items()
    assert which.kind == "blend" and shown.shape[0] == 2 and shown.max() > 200 and shown.min() == 0


@MODES
@pytest.mark.parametrize("preset", ["attribute", "style"])
def test_where_no_word_names_a_place_the_own_mask_alone_decides(editor: Editor, circle, preset, mode):
    settings = apply_preset(preset, "a red cube", "a shiny red cube", steps=3, own_mask=mode)
    result = editor.edit(clip(), settings, own_masks=circle).frames
    inside = circle == (0 if mode == "subtract" else 255)
    outside = circle == (255 if mode == "subtract" else 0)
    assert np.array_equal(result[outside], clip()[outside])
    assert (result[inside] != clip()[inside]).mean() > 0.5


def test_nothing_is_added_to_where_no_word_names_a_place(small_edit, left):
    states = small_edit.run(blend=Blend((), latents=True, own=OwnMask("add", left)))
    masked = [state.latent_masks[0] for state in states if state.latent_masks]
    assert masked and all(torch.equal(found, left > 127) for found in masked)


def test_without_a_mask_for_each_frame_nothing_is_begun(editor: Editor, circle):
    for settings, masks in (
        (asked(own_mask="replace"), None),
        (asked(), circle),
        (asked(own_mask="replace"), circle[:1]),
        (asked(own_mask="replace"), circle[:, :-1]),
    ):
        with pytest.raises(EditError, match="Give one mask a frame"):
            editor.edit(clip(), settings, own_masks=masks)
