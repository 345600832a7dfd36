"""The built-in model: there, small, and of Stable Diffusion's make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.editing import Editor
from engine.models.checkpoint import BUILTIN_FOLDER, load
from protocol.settings import apply_preset

MEGABYTE = 1_000_000


def test_it_loads_as_any_checkpoint_does():
    model = load("builtin", torch.device("cpu"), torch.float32)
    assert (model.name, model.image_side, model.factor) == ("builtin", 128, 4)
    assert len(model.unet.config.block_out_channels) == 4
    assert model.profile.mask_level in model.profile.inject_levels


def test_its_weights_are_small_half_precision_safetensors():
    weights = sorted(BUILTIN_FOLDER.rglob("*.safetensors"))
    assert [path.parent.name for path in weights] == ["text_encoder", "unet", "vae"]
    assert sum(path.stat().st_size for path in weights) <= 15 * MEGABYTE
    assert {tensor.dtype for path in weights for tensor in load_file(path).values()} == {torch.float16}
    assert not [path for path in BUILTIN_FOLDER.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("word", ["cube", "sphere", "monkey", "red", "purple", "checkered", "night", "sliding"])
def test_words_of_its_world_are_one_token_each(word):
    model = load("builtin", torch.device("cpu"), torch.float32)
    assert len(model.tokenizer(word, add_special_tokens=False)["input_ids"]) == 1


def test_it_comes_with_a_card():
    card = (BUILTIN_FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "GPL-3.0-or-later" in card and "held out" in card.lower().replace("-", " ")
    assert Path(BUILTIN_FOLDER / "profile.json").is_file()


def test_words_that_it_was_not_taught_are_named():
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    editor = Editor.load("builtin", device="cpu")

    def notes(target: str) -> list[str]:
        return editor.edit(frames, apply_preset("attribute", "A red cube on sand.", target, steps=1)).notes

    assert notes("A blue cube on sand.") == []
    (note,) = notes("a grren jeep on sand")
    assert note.startswith("This model was not taught 'grren' (green?), 'jeep': ")
