"""Checkpoints that load, and ones that are refused by name and reason."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

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


@pytest.mark.parametrize(
    "name", [UNET, "unet/config.json", "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json"]
)
def test_an_incomplete_checkpoint_is_refused_by_the_missing_file(folder, name):
    (folder / name).unlink()
    assert f"'mine' lacks {name}" in refusal(folder)


def test_missing_tensors_are_refused(folder):
    from safetensors.torch import save_file

    tensors = load_file(folder / UNET)
    del tensors["conv_in.weight"]
    save_file(tensors, folder / UNET)
    assert "lacks 1 tensors, such as conv_in.weight" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"cross_attention_dim": 48}))
    assert f"mine/{UNET} does not fit" in refusal(folder)


def test_another_kind_of_model_is_refused(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["diffusers", "SD3Transformer2DModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "'SD3Transformer2DModel' as its unet" in refusal(folder)


def test_no_folder_is_refused(tmp_path):
    assert "There is no checkpoint folder" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_channels": 9}, "takes 9 channels"),
        ({"cross_attention_dim": 48}, "more than one text encoder's 32 features"),
        ({"sample_size": None}, "does not say the size of its pictures"),
    ],
)
def test_models_of_another_make_are_refused(folder, changes, words):
    config = json.loads((folder / "unet/config.json").read_text())
    UNet2DConditionModel.from_config(config | changes).save_pretrained(folder / "unet")
    assert words in refusal(folder)
