"""The training programs on a few pictures, with the real classes at tiny sizes."""

import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from benchmarks.training import autoencoder, decoder, latents, loop, pictures, tokenizer, unet, words
from benchmarks.world import spec
from tests.benchmarks.flat_world import SIDE, flat_passes

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training pictures of two clips."""
    rendered, out = tmp_path_factory.mktemp("rendered"), tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        folder = rendered / f"clip_{seed:05d}"
        folder.mkdir()
        np.savez(folder / "passes.npz", **flat_passes(spec.sample_scene(seed)))
    with pytest.MonkeyPatch.context() as patch:
        options = f"--data {rendered} --out {out} --variants 3 --workers 1"
        patch.setattr(sys, "argv", ["pictures", *options.split()])
        pictures.main()
    return out


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with the tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer.write_tokenizer(folder / "tokenizer", tokenizer.learn_merges(tokenizer.caption_words(100, 10)))
    return folder


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(autoencoder.CONFIG, "block_out_channels", (8, 8, 8))
    monkeypatch.setitem(autoencoder.CONFIG, "sample_size", SIDE)
    monkeypatch.setattr(autoencoder, "CROP", 16)
    monkeypatch.setitem(unet.UNET, "block_out_channels", (16, 16, 16, 16))
    monkeypatch.setitem(unet.UNET, "attention_head_dim", 2)
    monkeypatch.setitem(unet.UNET, "sample_size", 16)


def test_pictures_have_captions_and_regions(data):
    images, regions = np.load(data / "pictures.npy"), np.load(data / "regions.npy")
    captions = json.loads((data / "captions.json").read_text())
    assert images.shape == (12, SIDE, SIDE, 3) and regions.shape == (12, 4, 32, 32)
    assert len(captions) == 12 and all(len(paraphrases) == pictures.PARAPHRASES for paraphrases in captions)
    assert np.all(images.reshape(12, -1).std(1) > 0)


def test_every_word_of_the_world_is_one_token_and_any_text_has_tokens(model):
    clip = CLIPTokenizer.from_pretrained(model / "tokenizer")
    for word in tokenizer.caption_words(100, 10):
        assert len(clip(word).input_ids) == 3, word
    for text in ("A Watercolor of Köln, isn’t it?", "", "☃", "x" * 300):
        ids = clip(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert len(ids) == 77 and ids[0] == clip.bos_token_id and ids[-1] == clip.eos_token_id == clip.pad_token_id
        kept = clip.decode(ids, skip_special_tokens=True).replace(" ", "")
        assert text.lower().replace(" ", "").startswith(kept) and len(kept) >= min(len(text) - 6, 75)
    assert clip("RED cube").input_ids == clip("red cube").input_ids


def test_training_goes_on_where_it_was_stopped(data, model, tiny, tmp_path):
    def train(module, state, out, steps, start=None):
        options = {"data": data, "state": tmp_path / state, "out": out, "steps": steps, "batch": 4, "coarse_steps": 1}
        module.train(Namespace(**options, save_every=1, rate=1e-3, start=start), rank=0, workers=1)
        return torch.load(tmp_path / state / loop.CHECKPOINT, weights_only=True)

    train(autoencoder, "vae", model, 1)
    assert train(autoencoder, "vae", model, 2)["step"] == 2
    assert (tmp_path / "vae" / "autoencoder.png").stat().st_size > 1000
    vae = AutoencoderKL.from_pretrained(model / "vae", torch_dtype=torch.float16)
    assert vae.dtype == torch.float16 and vae.config.scaling_factor > 0

    part = data / "latents.part.npy"
    np.lib.format.open_memmap(part, "w+", np.float16, (12, 4, SIDE // 4, SIDE // 4))
    latents.encode(Namespace(data=data, model=model), rank=0, workers=1)
    part.rename(data / "latents.npy")
    assert 0.5 < np.load(data / "latents.npy").astype(float).std() < 2

    whole = train(unet, "whole", model, 2)
    before = AutoencoderKL.from_pretrained(model / "vae").state_dict()
    train(decoder, "decoder", model, 1)
    assert train(decoder, "decoder", model, 2)["step"] == 2
    after = AutoencoderKL.from_pretrained(model / "vae").state_dict()
    changed = {name.split(".")[0] for name, values in after.items() if not torch.equal(values, before[name])}
    assert changed == {"post_quant_conv", "decoder"}

    # The learning rate depends on the last step, so the run is stopped by its checkpoint, not by --steps.
    original = loop.Checkpoint.save

    def save_and_stop(self, step):
        original(self, step)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Checkpoint, "save", save_and_stop)
        train(unet, "parts", model, 2)
    resumed = train(unet, "parts", model, 2)
    for name, values in whole["modules"]["unet"].items():
        assert torch.allclose(values, resumed["modules"]["unet"][name], atol=1e-6), name

    loaded = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float16)
    assert loaded.dtype == torch.float16
    clip = CLIPTokenizer.from_pretrained(model / "tokenizer")
    assert CLIPTextModel.from_pretrained(model / "text_encoder").config.eos_token_id == clip.eos_token_id
    assert DDIMScheduler.from_pretrained(model / "scheduler").config.prediction_type == "v_prediction"
    assert json.loads((model / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert not list(model.glob(".part-*"))


def test_kept_maps_leave_the_prediction_unchanged(tiny):
    torch.manual_seed(0)
    network = UNet2DConditionModel(**unet.UNET)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([5, 500]), torch.randn(2, 77, 128)
    with torch.no_grad():
        expected = network(*inputs).sample
        maps = words.keep_maps(network)
        assert torch.allclose(network(*inputs).sample, expected, atol=1e-5)
    layers = sum(name.endswith("attn2") for name, _ in network.named_modules()) - 1
    assert len(maps) == layers
    for attention in maps:
        assert attention.shape[0] == 2 and attention.shape[2] == 77
        assert torch.allclose(attention.sum(-1), torch.ones(attention.shape[:2]), atol=1e-5)


def test_attention_loss_is_least_where_words_point_at_their_places():
    named = torch.tensor([[-1, 0, 0, 2, 4]])
    targets = words.attention_targets(named)
    assert torch.allclose(targets[0, 0], torch.tensor([0, 0.4, 0.4, 0, 0.2]))
    assert torch.allclose(targets[0, 2], torch.tensor([0, 0, 0, 2 / 3, 1 / 3]))
    regions = torch.zeros(1, 4, 32, 32)
    regions[:, 0, :16], regions[:, 2, 16:] = 1, 1
    right = torch.cat([targets[:, :1].expand(1, 8, 5), targets[:, 2:3].expand(1, 8, 5)], 1)
    wrong = torch.full_like(right, 0.2)
    assert words.attention_loss([right], targets, regions) < words.attention_loss([wrong], targets, regions)


def sleep_on(folder: Path, rank: int, workers: int) -> None:
    """A training that does nothing for long, once its process is noted down."""
    (folder / f"{rank}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def test_workers_end_with_the_process_that_was_to_wait_for_them(tmp_path):
    """Else a killed training would go on, beside the one that takes up its checkpoint."""
    code = "import sys; from pathlib import Path; from benchmarks.training.loop import launch; "
    code += "from tests.benchmarks.test_training import sleep_on; launch(sleep_on, Path(sys.argv[1]), 2)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parents[2])
    files = [tmp_path / f"{rank}.pid" for rank in range(2)]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [psutil.Process(int(file.read_text())) for file in files]
    process.kill()
    process.wait()
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))


def until(true, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
