"""Tuned video checkpoints: their layout, and their temporal layers against plain convolutions and attention over frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional

from engine.editing import Editor
from engine.errors import EditError
from engine.fatezero.attention import Call
from engine.fatezero.keys import key_frames
from engine.fatezero.profile import Profile
from engine.fatezero.temporal import TemporalAttention, TemporalConv2d, TemporalLayer
from engine.fatezero.unet import FateZeroUNet
from engine.models.checkpoint import load
from protocol.settings import apply_preset
from tests.engine.families import make_tuned

CPU = torch.device("cpu")
WEIGHTS = "unet/diffusion_pytorch_model.bin"


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_tuned(tmp_path / "tuned")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return load(str(make_tuned(tmp_path_factory.mktemp("tuned") / "tuned")), CPU, torch.float32)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_every_convolution_of_kernel_3_and_every_block_has_its_temporal_part(tuned):
    convolutions = [m for m in tuned.unet.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert all(isinstance(module, TemporalConv2d) for module in convolutions)
    assert sum(isinstance(module, TemporalAttention) for module in tuned.unet.modules()) == 16
    ranks = {len(module.conv_temporal.down.weight) for module in convolutions}
    assert ranks == {2, 8, 16, 32}, "half the width where the configured rank is above it"


def test_its_keys_and_normalisation_are_facts_of_the_checkpoint(tuned):
    assert (tuned.profile.keys, tuned.profile.pooled_norm) == (("-1", "first"), True)
    assert tuned.profile.anchor_levels == {0, 1, 2, 3}
    assert tuned.profile.needs_whole_clip and not Profile().needs_whole_clip


def test_temporal_layers_work_along_the_frames_of_each_row():
    call = Call(("empty", "target"), frames=3)
    conv = TemporalConv2d(torch.nn.Conv2d(4, 6, 3, padding=1), rank=2)
    attention = TemporalAttention(8, heads=2, width=8)
    for layer in (conv.conv_temporal, attention):
        layer.current = [call]
    x = random(6, 4, 5, 5)
    plain = functional.conv2d(x, conv.weight, conv.bias, padding=1)
    tubes = plain.unflatten(0, (2, 3)).permute(0, 3, 4, 2, 1).flatten(0, 2)  # (rows * h * w, channels, F)
    change = conv.conv_temporal.up(conv.conv_temporal.down(tubes)).unflatten(0, (2, 5, 5)).permute(0, 4, 3, 1, 2)
    torch.testing.assert_close(conv(x), plain + change.flatten(0, 1), rtol=1e-4, atol=1e-5)
    states = random(6, 10, 8)
    pixels = states.unflatten(0, (2, 3)).transpose(1, 2).flatten(0, 1)  # (rows * pixels, F, channels)
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([attention.to_q.weight, attention.to_k.weight, attention.to_v.weight]))
        reference.out_proj.load_state_dict(attention.to_out[0].state_dict())
    expected = reference(pixels, pixels, pixels)[0].unflatten(0, (2, 10)).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(attention(states), expected, rtol=1e-4, atol=1e-5)


def test_rows_do_not_see_each_other(tuned):
    unet = FateZeroUNet(tuned.unet, tuned.profile)
    x, prompt = random(2, 3, 4, 8, 8), random(77, 32)
    options = dict(keys=key_frames(("-1", "first"), 3), pooled_norm=True)
    both = unet([x[0], x[1]], 500, [prompt] * 2, Call(("empty", "target"), 3, **options))
    (alone,) = unet([x[1]], 500, [prompt], Call(("target",), 3, **options))
    torch.testing.assert_close(both[1], alone, rtol=1e-4, atol=1e-5)
    changed = torch.cat([x[1][:2], x[1][2:] + 1])
    (other,) = unet([changed], 500, [prompt], Call(("target",), 3, keys=(), pooled_norm=False))
    (same,) = unet([x[1]], 500, [prompt], Call(("target",), 3, keys=(), pooled_norm=False))
    assert (other[0] - same[0]).abs().max() > 1e-4, "frames see each other through the temporal layers alone"


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_it_edits_and_says_what_it_needed(folder, precision):
    (folder / "profile.json").write_text(
        json.dumps(
            dict(inject_levels=[1, 2, 3], mask_level=1, mask_places=["down", "up"], anchor_levels=[1], image_side=64)
        )
    )
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    editor = Editor.load(str(folder), "cpu", precision)
    settings = apply_preset("shape", "a red cube on grass", "a red ball on grass", steps=2, guidance=2.0)
    result = editor.edit(frames, settings)
    assert result.frames.shape == frames.shape and result.frames.std() > 1
    (note,) = result.notes
    assert "keys from -1 and first and normalisation over the clip" in note and "not mid and frame" in note
    fitting = apply_preset(
        "shape", settings.source, settings.target, steps=2, guidance=2.0, keys=("-1", "first"), normalization="clip"
    )
    again = editor.edit(frames, fitting)
    assert again.notes == [] and np.array_equal(again.frames, result.frames)


def test_the_names_of_tune_a_video_load_too(folder, tuned):
    """Its own program calls the layers otherwise and has no temporal convolutions."""
    config = json.loads((folder / "unet/config.json").read_text().replace("Pseudo3D", "3D"))
    (folder / "unet/config.json").write_text(json.dumps(config))
    state = torch.load(folder / WEIGHTS, weights_only=True)
    renamed = {
        name.replace("_temporal.", "_temp."): tensor for name, tensor in state.items() if "conv_temp" not in name
    }
    torch.save(renamed, folder / WEIGHTS)
    index = (folder / "model_index.json").read_text().replace("UNetPseudo3D", "UNet3D")
    (folder / "model_index.json").write_text(index)
    unet = load(str(folder), CPU, torch.float32).unet
    assert not any(isinstance(module, TemporalConv2d) for module in unet.modules())
    name = "mid_block.attentions.0.transformer_blocks.0.attn_temporal.to_q.weight"
    assert torch.equal(unet.state_dict()[name], tuned.unet.state_dict()[name])


def test_weights_of_another_make_are_refused(folder):
    state = torch.load(folder / WEIGHTS, weights_only=True)
    torch.save(state | {"down_blocks.0.temp_convs.0.conv1.weight": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(EditError, match="1 tensors of another make of model, such as down_blocks.0.temp_convs"):
        load(str(folder), CPU, torch.float32)
    del state["conv_in.weight"]
    torch.save(state, folder / WEIGHTS)
    with pytest.raises(EditError, match="incomplete: it lacks 1 tensors, such as conv_in.weight"):
        load(str(folder), CPU, torch.float32)


def test_an_image_model_has_no_temporal_layers(model):
    assert not any(isinstance(module, TemporalLayer) for module in model.unet.modules())
    assert isinstance(model.unet, UNet2DConditionModel)
