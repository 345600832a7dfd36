"""Masks with the picture's own edges."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.editing import Editor
from engine.fatezero.background import refined_share
from engine.fatezero.blending import Blend
from engine.fatezero.masks import blend_mask
from engine.fatezero.refined import SMOOTHING, grown, guided, names_picture, place_mask, relative
from protocol.settings import apply_preset

GRID, SIDE = (8, 8), 64
DISC = (
    torch.linalg.vector_norm(torch.stack(torch.meshgrid(*[torch.arange(SIDE) - 31.0] * 2, indexing="ij")), dim=0) < 17
)


def picture() -> torch.Tensor:
    """A red disc on a floor of two greys, (1, 3, 64, 64)."""
    ground = torch.where((torch.arange(SIDE) // 16 % 2).bool(), 0.4, 0.5).expand(3, SIDE, SIDE)
    return torch.where(DISC, torch.tensor([0.8, 0.1, 0.1])[:, None, None], ground)[None]


def maps() -> torch.Tensor:
    """The disc as the grid of a model sees it, and the rest: (1, pixels, 2 tokens)."""
    share = functional.adaptive_avg_pool2d(DISC[None].float(), GRID).flatten(1)
    return 0.3 * torch.stack([share, 1 - share], dim=-1)


def iou(mask: torch.Tensor) -> float:
    return float((mask & DISC).sum() / (mask | DISC).sum())


def test_the_edges_are_the_pictures():
    soft = relative(maps(), [0], GRID)
    enlarged = functional.interpolate(soft, size=(SIDE, SIDE), mode="bilinear") > 0.4
    paper = blend_mask(maps(), [0], GRID, (SIDE, SIDE), 0.3)
    drawn = guided(soft, picture())
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert iou(paper) < 0.7 and iou(enlarged) < 0.95 and iou(drawn > 0.4) > 0.99


def test_a_word_that_is_seen_everywhere_names_the_whole_picture():
    place, seen = maps()[..., :1], 0.3 * torch.ones(1, GRID[0] * GRID[1], 1)
    tokens = torch.cat([place, seen + place, seen + 9 * place], dim=-1)  # weakest through strongest: 0, 1/2 and 1/10
    for token, whole in ((0, False), (1, True), (2, False)):
        mask = place_mask(tokens, [token], GRID, (32, 32), 0.6)
        assert bool(mask.all()) == whole == names_picture(tokens, [token], GRID), token
    assert not names_picture(torch.cat([tokens, maps()[..., :1].expand(-1, -1, 3)]), [1], GRID), (
        "in one frame it does not"
    )


def test_words_for_the_whole_picture_are_made_stronger(small_checkpoint):
    """To a random model 'red' and 'ball' together are everywhere, and 'red' alone is not."""
    editor = Editor.load(str(small_checkpoint), device="cpu", precision="float32")
    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)

    def edited(*names: str, **changes):
        words = dict(blend_source=names or ("red", "ball"), blend_target=("blue",), picture_weight=1.0, word_weights={})
        return editor.edit(
            clip, apply_preset("attribute", "a red ball", "a blue ball", steps=3, **words | changes)
        ).frames

    plain, strong = edited(), edited(picture_weight=4.0)
    assert not np.array_equal(plain, strong)
    assert np.array_equal(edited("red"), edited("red", picture_weight=4.0))
    assert np.array_equal(strong, edited(word_weights={"blue": 4.0}))
    assert np.array_equal(edited(picture_weight=4.0, word_weights={"blue": 2.0}), edited(word_weights={"blue": 2.0}))
    assert np.array_equal(edited(picture_weight=4.0, mask="paper"), edited(mask="paper")), (
        "the paper's knows no such words"
    )


def test_a_picture_without_edges_leaves_the_mask_smooth():
    soft = relative(maps(), [0], GRID)
    plain = guided(soft, torch.full((1, 3, SIDE, SIDE), 0.5))
    assert abs(plain.diff(dim=-1)).max() < 0.1


def test_the_filter_is_the_guided_filter_as_it_is_written_down():
    """He et al., equations 5 to 8 with a colour guide, at single places away from the borders."""
    random = torch.Generator().manual_seed(0)
    guide, soft = torch.rand(1, 3, SIDE, SIDE, generator=random), torch.rand(1, 1, *GRID, generator=random)
    wanted = functional.interpolate(soft, size=(SIDE, SIDE), mode="bilinear")[0, 0]

    def fitted(row: int, column: int) -> tuple[torch.Tensor, torch.Tensor]:
        window = slice(row - 8, row + 9), slice(column - 8, column + 9)
        colours, levels = guide[0][:, *window].flatten(1), wanted[window].flatten()
        middle = colours.mean(1, keepdim=True)
        spread = (colours - middle) @ (colours - middle).T / levels.numel()
        slope = torch.linalg.solve(
            spread + SMOOTHING * torch.eye(3), (colours * levels).mean(1) - middle[:, 0] * levels.mean()
        )
        return slope, levels.mean() - slope @ middle[:, 0]

    row, column = 32, 30
    around = [fitted(y, x) for y in range(row - 8, row + 9) for x in range(column - 8, column + 9)]
    slope, offset = (torch.stack(values).mean(0) for values in zip(*around))
    expected = (slope @ guide[0, :, row, column] + offset).clamp(0, 1)
    torch.testing.assert_close(guided(soft, guide)[0, 0, row, column], expected, rtol=1e-4, atol=1e-4)


def test_a_frame_and_a_part_are_what_they_are_in_the_whole():
    random = torch.Generator().manual_seed(1)
    soft, guide = torch.rand(3, 1, 4, 6, generator=random), torch.rand(3, 3, 40, 60, generator=random)
    whole = guided(soft, guide)
    assert whole.shape == (3, 1, 40, 60)
    for frame in range(3):
        torch.testing.assert_close(guided(soft[frame : frame + 1], guide[frame : frame + 1])[0], whole[frame])


@pytest.mark.parametrize(("size", "least", "most"), [((16, 16), 0.99, 1.8), ((8, 8), 0.99, 2.4), ((4, 4), 0.99, 3.6)])
def test_the_mask_of_the_latents_holds_its_object_and_little_more(size, least, most):
    mask = place_mask(maps(), [0], GRID, size, 0.4)
    true = functional.adaptive_avg_pool2d(DISC[None, None].float(), size)
    assert mask.shape == (1, 1, *size) and mask.dtype == torch.bool
    assert (true * mask).sum() >= least * true.sum() and mask.sum() <= most * true.sum()
    if size == (16, 16):
        assert mask.sum() < blend_mask(maps(), [0], GRID, size, 0.3).sum(), "the paper's is fatter"


def test_a_word_without_tokens_or_weight_is_nowhere():
    assert not place_mask(maps(), [], GRID, (16, 16), 0.3).any()
    assert not place_mask(torch.zeros(2, 64, 3), [1], GRID, (16, 16), 0.0).any()


def test_what_is_kept_begins_a_latent_from_the_mask_and_is_all_two_latents_on():
    masks = [torch.zeros(1, 1, 40, 40, dtype=torch.bool) for _ in range(2)]
    masks[0][..., 18:22, 18:22] = masks[1][..., 20, 20] = True
    share = refined_share(masks, 3)[0]
    assert (share[grown(masks[0], 3)[0, 0]] == 1).all() and not share[~grown(masks[0], 9)[0, 0]].any()
    assert (share[20, 22:].diff() <= 0).all() and share[20, 22:].diff().min() > -0.2


def test_a_blend_chooses_its_masks():
    assert Blend(("a",)).mask_of is blend_mask and Blend(("a",), refined=True).mask_of is place_mask
