"""Checkpoints that load, and ones that are refused by name and reason."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import EditError
from engine.models.checkpoint import load

DATA = Path(__file__).parents[1] / "data"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(DATA / "checkpoint", tmp_path / "mine"))


def refusal(folder) -> str:
    with pytest.raises(EditError) as caught:
        load(str(folder), torch.device("cpu"), torch.float32)
    assert caught.value.code == "checkpoint" and caught.value.remedy
    return caught.value.sentence


def test_weights_load_from_bin_files_that_hold_only_tensors(folder, model):
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        path = folder / part / f"{stem}.safetensors"
        name = "pytorch_model.bin" if part == "text_encoder" else f"{stem}.bin"
        torch.save(load_file(path), folder / part / name)
        path.unlink()
    loaded = load(str(folder), torch.device("cpu"), torch.float32)
    for ours, theirs in zip(loaded.vae.parameters(), model.vae.parameters()):
        assert torch.equal(ours, theirs)


def test_half_precision_variants_load_where_there_is_nothing_else(folder, model):
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        path = folder / part / f"{stem}.safetensors"
        halves = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(halves, folder / part / f"{stem}.fp16.safetensors", {"format": "pt"})
        path.unlink()
    loaded = load(str(folder), torch.device("cpu"), torch.float32)
    for ours, theirs in zip(loaded.unet.parameters(), model.unet.parameters()):
        assert torch.equal(ours, theirs)


class RunsCode:
    def __reduce__(self):
        return (Path.touch, (Path("pickle-was-run"),))


def test_code_in_a_bin_file_is_refused_and_not_run(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (folder / UNET).unlink()
    torch.save({"conv_in.weight": RunsCode()}, folder / "unet/diffusion_pytorch_model.bin")
    assert "mine/unet/diffusion_pytorch_model.bin holds more than tensors" in refusal(folder)
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(RunsCode()))
    assert "holds more than tensors" in refusal(folder)
    assert not Path("pickle-was-run").exists()


def test_damaged_weights_are_refused(folder):
    whole = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(whole[: len(whole) // 2])
    assert f"mine/{UNET} is damaged" in refusal(folder)
    (folder / UNET).write_bytes(b"")
    assert f"mine/{UNET} is damaged" in refusal(folder)


@pytest.mark.parametrize("data", [b"junk", b"q", b"0", b"<!DOCTYPE html>", bytes(range(256)), b"\x80\x04K\x01.", b""])
def test_a_file_that_is_no_checkpoint_is_refused_whatever_its_bytes_say(tmp_path, data, recwarn):
    path = tmp_path / "page.ckpt"
    path.write_bytes(data)
    assert "page.ckpt" in refusal(path)
    assert not [warning for warning in recwarn if warning.category is UserWarning]


@pytest.mark.parametrize(
    "name", [UNET, "unet/config.json", "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"]
)
def test_an_incomplete_checkpoint_is_refused_by_the_missing_file(folder, name):
    (folder / name).unlink()
    assert f"'mine' lacks {name}" in refusal(folder)


def test_missing_tensors_are_refused(folder):
    tensors = load_file(folder / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, folder / UNET)
    assert "lacks 1 tensors, such as conv_in.weight" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"block_out_channels": [16, 32, 64, 128]}))
    assert f"mine/{UNET} does not fit" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("model_index.json", {"unet": ["diffusers", "SD3Transformer2DModel"]}, "'SD3Transformer2DModel' as its unet"),
        ("model_index.json", {"unet": None, "_class_name": "FluxPipeline"}, "'None' as its unet.*FluxPipeline"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "Stable Diffusion XL"),
        ("model_index.json", {"vae": ["diffusers", "AsymmetricAutoencoderKL"]}, "'AsymmetricAutoencoderKL' as its vae"),
        ("unet/config.json", {"in_channels": 9}, "takes 9 channels.*made for inpainting"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "Stable Diffusion XL"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "as distilled models do"),
        ("unet/config.json", {"num_class_embeds": 1000}, "a noise level or class"),
        ("unet/config.json", {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "'UNetMidBlock2DSimpleCrossAttn'"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "of the kind 'AutoencoderTiny'"),
        ("vae/config.json", {"latent_channels": 16}, "has 16 channels.*Flux"),
        ("vae/config.json", {"shift_factor": 0.1159}, "shifts its latents"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "leaves no signal at the last timestep"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "neither noise nor"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "cosine"}, "cannot be sampled"),
    ],
)  # fmt: skip
def test_another_kind_of_model_is_refused_by_its_configurations(folder, name, changes, words):
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | changes))
    assert re.search(words, refusal(folder))


def test_weights_in_pieces_are_refused(folder):
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model-00001-of-00001.safetensors")
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    assert "is stored in several pieces" in refusal(folder)


def test_what_cannot_work_is_known_without_torch(folder):
    """So the server, which never loads torch, can refuse a model before anything is uploaded."""
    (folder / "unet/config.json").write_text("{}")
    code = (
        "import sys\nfrom engine.errors import EditError\nfrom engine.models.checks import check\n"
        "from protocol.models import Model\ntry: check(Model(sys.argv[1]))\nexcept EditError as error: print(error)\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=DATA.parents[1], capture_output=True, text=True)
    assert done.returncode == 0 and "needs a text encoder of 1280 features" in done.stdout, done.stderr


def test_no_folder_is_refused(tmp_path):
    assert "There is no checkpoint folder or file" in refusal(tmp_path / "nothing")


def test_a_checkpoint_that_does_not_say_its_pictures_size_is_refused(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"sample_size": None}))
    assert "does not say the size of its pictures" in refusal(folder)
