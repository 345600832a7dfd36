"""Single-file checkpoints: the same modules as from the folder that they come from, and sizes read from the weights."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from engine.editing import Editor
from engine.errors import EditError
from engine.models.checkpoint import load
from engine.models.single import clip_tokenizer, configs_of
from protocol.models import Model
from protocol.settings import apply_preset
from tests.engine.single_files import configs, modules, single, vae

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def made(family):
    return modules(family)


@pytest.fixture
def path(made, family, tmp_path) -> Path:
    save_file(single(made, family), tmp_path / "mine.safetensors", {"modelspec.prediction_type": "v"})
    return tmp_path / "mine.safetensors"


def refusal(model) -> str:
    with pytest.raises(EditError) as caught:
        load(model, CPU, torch.float32)
    assert caught.value.code == "checkpoint" and caught.value.remedy
    return str(caught.value)


def test_a_file_gives_the_modules_that_it_was_made_from(path, made, family):
    checkpoint = load(str(path), CPU, torch.float32)
    for part, module in made.items():
        loaded, expected = getattr(checkpoint, part).state_dict(), module.state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert checkpoint.scheduler_config["prediction_type"] == "v_prediction"
    assert checkpoint.image_side == (768 if family == "sd2" else 512)
    assert checkpoint.tokenizer.pad_token == ("!" if family == "sd2" else "<|endoftext|>")


def test_a_ckpt_file_with_what_trainers_leave_in_it_loads_and_edits(made, family, tmp_path, monkeypatch):
    """Stable Diffusion 1.4's own file names a class of its trainer, which is neither imported nor made."""
    trainer = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    trainer.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": trainer.__name__})
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", trainer.__name__):
            patch.setitem(sys.modules, name, trainer)
        left = {"global_step": 5, "callbacks": {trainer.ModelCheckpoint: {"monitor": "val/loss"}}}
        torch.save({"state_dict": single(made, family), **left}, tmp_path / "mine.ckpt")
    editor = Editor.load(Model(str(tmp_path / "mine.ckpt"), prediction="epsilon"), "cpu")
    assert editor.checkpoint.image_side == 512
    editor.checkpoint.image_side = 64
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 64, 3), dtype=np.uint8)
    settings = apply_preset("attribute", "a red cube", "a blue cube", steps=2, guidance=2.0)
    assert editor.edit(frames, settings).frames.std() > 1


def test_sizes_of_the_real_families_are_read_from_their_shapes(family):
    with torch.device("meta"):
        state = single(modules(family, tiny=False), family)
    found = configs_of({name: tuple(tensor.shape) for name, tensor in state.items()}, "epsilon")
    expected = configs(family, tiny=False)
    expected["scheduler"]["prediction_type"] = "epsilon"
    assert found == expected


def test_what_it_predicts_is_said_by_the_user_the_yaml_beside_it_or_the_metadata(made, family, path):
    assert (
        load(Model(str(path), prediction="epsilon"), CPU, torch.float32).scheduler_config["prediction_type"]
        == "epsilon"
    )
    save_file(single(made, family), path)
    if family == "sd2":
        assert "does not say what it predicts. Add it with --prediction" in refusal(str(path))
    else:
        assert load(str(path), CPU, torch.float32).scheduler_config["prediction_type"] == "epsilon"
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    assert load(str(path), CPU, torch.float32).scheduler_config["prediction_type"] == "v_prediction"


def test_the_shipped_vocabulary_is_clips():
    """Token ids as CLIP gives them, known from its own documentation."""
    assert clip_tokenizer("!")("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(clip_tokenizer("!")) == 49408 and clip_tokenizer("!").pad_token_id == 0


DOWN = "encoder.down.0.block.0.conv1.weight"


@pytest.mark.parametrize("start", ["", "first_stage_model."])
def test_an_autoencoder_in_a_file_of_its_own_stands_in_for_the_checkpoints(path, start, tmp_path):
    torch.manual_seed(1)
    other = AutoencoderKL.from_config(configs("sd1")["vae"]).state_dict()
    named = {name.replace("first_stage_model.", start): tensor for name, tensor in vae(other).items()}
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, tmp_path / "other.SAFETENSORS")
    torch.save({"state_dict": named | {"loss.logvar": torch.zeros(1)}}, tmp_path / "other.pt")
    own = load(str(path), CPU, torch.float32).files.digest(tmp_path / "digests")
    for file in ("other.SAFETENSORS", "other.pt"):
        loaded = load(Model(str(path), vae=str(tmp_path / file)), CPU, torch.float32)
        found = loaded.vae.state_dict()
        assert found.keys() == other.keys() and all(torch.equal(found[name], other[name]) for name in other)
        assert loaded.files.digest(tmp_path / "digests") != own


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            {"encoder.down_blocks.0.x": (4,)},
            "is named as in diffusers layout, where config.json belongs to it. Give the f",
        ),
        (
            {"decoder.conv_in.weight": (512, 16, 3, 3), DOWN: (128, 128, 3, 3)},
            "has 16 channels, where Stable Diffusion has 4: it is of Stable",
        ),
        ({"decoder.conv_in.weight": (512, 4, 3, 3), DOWN: (128, 128, 3, 3)}, "bad.safetensors does not fit"),
        ({"first_stage_model.decoder.conv_in.weight": (32, 4, 3, 3)}, "holds no whole autoencoder"),
        ({"anything": (1,)}, "holds no whole autoencoder of Stable Diffusion"),
    ],
)
def test_files_of_other_autoencoders_are_refused(path, names, words, tmp_path):
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "bad.safetensors")
    assert words in refusal(Model(str(path), vae=str(tmp_path / "bad.safetensors")))
    (tmp_path / "bad.onnx").touch()
    assert "neither a .safetensors nor" in refusal(Model(str(path), vae=str(tmp_path / "bad.onnx")))


class RunsCode:
    def __reduce__(self):
        return (Path.touch, (Path("pickle-was-run"),))


def test_code_in_a_ckpt_file_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"x": RunsCode()}}, "bad.ckpt")
    assert "bad.ckpt holds more than tensors, which could run code" in refusal(str(tmp_path / "bad.ckpt"))
    Path("bad.ckpt").write_bytes(pickle.dumps(RunsCode()))
    assert "holds more than tensors" in refusal(str(tmp_path / "bad.ckpt"))
    assert not Path("pickle-was-run").exists()
    torch.save([1, 2], "list.ckpt")
    assert "list.ckpt holds no tensors by name" in refusal(str(tmp_path / "list.ckpt"))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"conditioner.embedders.1.model.ln_final.weight": (4,)}, "it is a Stable Diffusion XL model"),
        ({"model.diffusion_model.joint_blocks.0.x": (4,)}, "it is a Stable Diffusion 3 model"),
        ({"double_blocks.0.img_attn.qkv.weight": (4,)}, "it is a Flux model"),
        ({"lora_unet_mid_block.lora_up.weight": (4,)}, "it is a LoRA, which is added"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3)}, "holds no vae"),
        ({"anything": (1,)}, "holds no unet"),
    ],
)
def test_other_files_are_refused_by_their_names(tmp_path, names, words):
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "other.safetensors")
    assert words in refusal(str(tmp_path / "other.safetensors"))
    torch.save({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "other.ckpt")
    assert words in refusal(str(tmp_path / "other.ckpt"))


def test_an_inpainting_file_and_an_incomplete_one_are_refused(made, family, path):
    state = single(made, family)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    save_file(state | {name: torch.zeros(32, 9, 3, 3)}, path)
    assert "takes 9 channels, where Stable Diffusion takes 4: it is made for inpainting" in refusal(str(path))
    for lost in ("model.diffusion_model.out.2.bias", "first_stage_model.quant_conv.bias"):
        save_file({name: tensor for name, tensor in state.items() if name != lost}, path)
        assert "mine.safetensors is incomplete: it lacks 1 tensors" in refusal(Model(str(path), prediction="epsilon"))
    path.write_bytes(path.read_bytes()[:-10])
    assert "mine.safetensors is damaged or cut short" in refusal(str(path))
