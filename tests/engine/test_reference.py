"""The authors' program's numbers, replayed."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from engine.fatezero.profile import level_sizes
from engine.verify import verify
from tests.engine.families import make_tuned

DATA = Path(__file__).parents[1] / "data"
ZERO_SHOT = ["reconstruct", "attribute_blend", "style_refine", "shape_replace_latent_blend"]


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_case_is_reproduced_and_next_to_nothing_is_held_for_attention(name):
    case = DATA / "cases" / f"{name}.safetensors"
    result = verify(case, DATA / "checkpoint")
    assert result.inversion_max_abs_error < 1e-4
    assert result.edited_relative_error < 1e-3
    assert result.mask_disagreement <= 0.01
    assert 0 < result.attention_bytes < 0.01 * bytes_of_all_maps(case)


def test_the_tuned_checkpoint_is_reproduced_in_its_published_layout(tmp_path):
    result = verify(DATA / "cases" / "shape_tuned_temporal.safetensors", make_tuned(tmp_path / "tuned"))
    assert result.inversion_max_abs_error < 1e-4
    assert result.edited_relative_error < 1e-3
    assert result.mask_disagreement <= 0.01


def bytes_of_all_maps(case: Path) -> int:
    """What storing every injected layer's maps of every step takes, as the authors' program does, in float32."""
    config = json.loads((DATA / "checkpoint" / "unet" / "config.json").read_text())
    with safe_open(case, framework="pt") as file:
        frames, _, height, width = file.get_slice("latents").get_shape()
        steps = json.loads(file.metadata()["case"])["steps"]
    layers = {1: 5, 2: 5, 3: 1}  # two down and three up at each of two levels, one in the middle
    pixels = [rows * columns for rows, columns in level_sizes((height, width), 4)]
    maps = sum(count * pixels[level] * (pixels[level] + 77) for level, count in layers.items())
    return 4 * steps * frames * config["attention_head_dim"] * maps
