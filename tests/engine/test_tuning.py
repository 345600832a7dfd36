"""One-shot tuning: begins as the image model, learns the clip, goes on after any end, and gives a checkpoint that edits."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.clips import ArrayClip
from engine.devices import choose_dtype, multiplies_bfloat16
from engine.editing import EditError, Editor
from engine.fatezero.attention import Call
from engine.fatezero.keys import key_frames
from engine.fatezero.profile import tuned
from engine.fatezero.schedule import Schedule
from engine.fatezero.temporal import TemporalConv2d
from engine.fatezero.unet import FateZeroUNet
from engine.models.checkpoint import load
from engine.models.checks import tuned_already
from engine.models.text import read_prompt
from engine.tuning.folder import save_checkpoint
from engine.tuning.parts import add_fresh_parts, trained_parameters
from engine.tuning.training import Training
from engine.tuning.tune import TuneSettings, needs_checkpointing, tune
from protocol import models
from protocol.models import Model
from protocol.settings import apply_preset
from tests.engine.families import make_tuned
from tests.engine.killable import Killable
from tests.engine.single_files import modules, single

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PROMPT = "a red cube on grass"
ASKED = TuneSettings(PROMPT, steps=4, rate=1e-3, rank=4)


def clip(frames=3):
    return np.random.default_rng(0).integers(0, 256, (frames, 48, 64, 3), dtype=np.uint8)


def digests(folder: Path) -> dict[str, str]:
    """All files of a folder, by their path in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def result(small_checkpoint, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tuned") / "result"
    assert tune(str(small_checkpoint), clip(), ASKED, out, device="cpu") == []
    return out


def test_the_disk_has_all_of_the_result_before_the_state_is_removed(small_checkpoint, tmp_path, monkeypatch):
    out, synced, removed, swift, remove = tmp_path / "out", [], [], os.fsync, shutil.rmtree

    def sync(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        swift(file)

    def check(folder: Path, **how) -> None:
        inodes = {path: path.stat().st_ino for path in (out, *out.rglob("*")) if folder not in (path, path.parent)}
        assert {path for path, inode in inodes.items() if inode not in synced} == set()
        assert len(inodes) > 10 and synced[-2:] == [inodes[out / "model_index.json"], inodes[out]]
        removed.append(folder)
        remove(folder, **how)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(shutil, "rmtree", check)
    tune(str(small_checkpoint), clip(2), replace(ASKED, steps=1), out, device="cpu")
    assert removed == [out / "tuning"] and not removed[0].exists()


def test_it_begins_as_the_image_model_with_the_same_keys_and_normalisation(small_checkpoint):
    plain, grown = (load(str(small_checkpoint), CPU, torch.float32) for _ in range(2))
    add_fresh_parts(grown.unet, rank=4, seed=0)
    for checkpoint in (plain, grown):
        checkpoint.profile = tuned(checkpoint.profile, 4)
    latents, prompt = torch.randn(3, 4, 8, 8), torch.randn(77, 32)
    outputs = []
    for checkpoint in (plain, grown):
        call = Call(("source",), 3, keys=key_frames(("-1", "first"), 3), pooled_norm=True)
        outputs += FateZeroUNet(checkpoint.unet, checkpoint.profile)([latents], 500, [prompt], call)
    assert torch.equal(*outputs)
    for parameter in trained_parameters(grown.unet).values():
        parameter += 0.1
    call = Call(("source",), 3, keys=key_frames(("-1", "first"), 3), pooled_norm=True)
    assert not torch.allclose(FateZeroUNet(grown.unet, grown.profile)([latents], 500, [prompt], call)[0], outputs[0])


def test_the_temporal_parts_and_the_queries_are_trained_and_nothing_else(small_checkpoint, result):
    before = load(str(small_checkpoint), CPU, torch.float32).unet
    after = load(str(result), CPU, torch.float32).unet
    changed = {
        name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])
    }
    assert changed == {
        name for name in before.state_dict() if name.endswith(("attn1.to_q.weight", "attn2.to_q.weight"))
    }
    new = {name: tensor for name, tensor in after.state_dict().items() if "_temporal." in name}
    assert set(trained_parameters(after)) == changed | set(new)
    outer = [tensor for name, tensor in new.items() if name.endswith(("conv_temporal.up.weight", "to_out.0.weight"))]
    assert len(outer) > 40 and all(tensor.any() for tensor in outer)
    ranks = {len(module.conv_temporal.down.weight) for module in after.modules() if isinstance(module, TemporalConv2d)}
    assert ranks == {2, 4}, "half the width of conv_out, which has four channels"


def training(folder: Path, checkpointing=False) -> Training:
    checkpoint = load(str(folder), CPU, torch.float32)
    add_fresh_parts(checkpoint.unet, rank=4, seed=0)
    trained = trained_parameters(checkpoint.unet)
    checkpoint.profile = tuned(checkpoint.profile, 4)
    editor = Editor(checkpoint)
    if checkpointing:
        checkpoint.unet.enable_gradient_checkpointing()
    latents = editor.encode(editor.geometry(clip()).to_model(clip()))
    schedule = Schedule.from_config(checkpoint.scheduler_config, 1)
    return Training(editor.unet, trained, latents, torch.randn(77, 32), schedule, rate=3e-3, seed=0)


def test_the_loss_falls(small_checkpoint):
    """Of the same noises at the same timesteps, met for the second time."""
    torch.manual_seed(0)
    learning = training(small_checkpoint)
    begin = learning.state()["generator"]
    first = [learning.advance() for _ in range(10)]
    learning.go_on_from(learning.state() | {"generator": begin})
    second = [learning.advance() for _ in range(10)]
    assert np.mean(second) < 0.95 * np.mean(first)


def test_layers_that_are_computed_again_give_the_same_bits(small_checkpoint):
    states = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        learning = training(small_checkpoint, checkpointing)
        losses = [learning.advance() for _ in range(2)]
        states.append((losses, learning.state()))
    assert states[0][0] == states[1][0]
    assert all(torch.equal(tensor, states[1][1][name]) for name, tensor in states[0][1].items())


def test_a_gpu_that_only_imitates_bfloat16_trains_in_float32(monkeypatch):
    """The device is said to be one: there need be none here."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not multiplies_bfloat16(torch.device("cuda"))
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert multiplies_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_target_is_what_the_schedule_turns_back_into_the_noise(prediction):
    schedule = Schedule.from_config({"prediction_type": prediction}, 1)
    clean, noise = torch.randn(2, 3, 4, 8, 8)
    noisy = schedule.noised(clean, noise, 700)
    target = schedule.target(clean, noise, 700)
    torch.testing.assert_close(schedule.noise(target, noisy, 700), noise, rtol=1e-4, atol=1e-5)
    assert torch.equal(target, noise) == (prediction == "epsilon")


@pytest.fixture(scope="module")
def killable(small_checkpoint):
    process = Killable(small_checkpoint)
    yield process
    process.end()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_tuning_that_is_killed_at_any_moment_ends_in_the_same_bits(killable, tmp_path):
    np.save(tmp_path / "clip.npy", clip())
    settings = dict(prompt=PROMPT, steps=9, rate=1e-3, rank=4)
    job = dict(clip=str(tmp_path / "clip.npy"), keep_every=2)
    undisturbed, status = killable.tune(settings, out=str(tmp_path / "whole"), **job)
    assert status == 0 and [report["step"] for report in undisturbed] == list(range(1, 10))
    moments, kept, killed = random.Random(0), 0, 0
    while True:
        reports, status = killable.tune(settings, kill_after=moments.randint(2, 4), out=str(tmp_path / "out"), **job)
        for report in reports:
            assert report["loss"] == undisturbed[report["step"] - 1]["loss"]
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert reports[0]["step"] > kept, "a step that was kept was done again"
        killed, kept = killed + 1, reports[-1]["step"] // 2 * 2
    assert killed >= 2
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


class Ended(Exception):
    """Ends a tuning where a test wants it."""


def end_at(step: int, act=None):
    def report(progress):
        if progress.step == step:
            if act is None:
                raise Ended
            act()

    return report


def test_a_cancelled_tuning_goes_on_after_its_last_step_and_a_damaged_state_begins_anew(
    small_checkpoint, result, tmp_path
):
    out = tmp_path / "out"
    for damage, first in ((False, 4), (True, 1)):
        with pytest.raises(Ended):
            tune(str(small_checkpoint), clip(), ASKED, out, end_at(3), device="cpu", keep_every=2)
        assert not (out / "model_index.json").exists()
        if damage:
            (state,) = (out / "tuning").glob("state-*")
            state.write_bytes(state.read_bytes()[:-1])
        heard = []
        tune(str(small_checkpoint), clip(), ASKED, out, lambda p, heard=heard: heard.append(p.step), device="cpu")
        assert heard[0] == first
        assert digests(out) == digests(result)
        shutil.rmtree(out)


def test_the_seed_decides(small_checkpoint, result, tmp_path):
    tune(str(small_checkpoint), clip(), replace(ASKED, seed=1), tmp_path / "out", device="cpu")
    changed = {name for name, digest in digests(result).items() if digests(tmp_path / "out")[name] != digest}
    assert changed == {"unet/diffusion_pytorch_model.safetensors"}


def test_a_sample_shows_the_clip(small_checkpoint, tmp_path):
    samples = {}
    report = lambda progress: samples.update({progress.step: progress.sample})
    tune(str(small_checkpoint), clip(), ASKED, tmp_path / "out", report, device="cpu", sample_every=3)
    assert {step for step, sample in samples.items() if sample is not None} == {3}
    assert samples[3].shape == clip().shape and samples[3].std() > 1


def test_small_pictures_of_the_clip_are_shown_and_change_nothing(small_checkpoint, result, tmp_path):
    seen = []
    tune(str(small_checkpoint), ArrayClip(clip()), ASKED, tmp_path / "out", device="cpu", preview=seen.append)
    assert [preview.steps for preview in seen] == [4] * len(seen) and seen[0].frames == [0, 1, 2]
    assert seen[0].pictures.shape[0] == 3 and seen[0].pictures.dtype == np.uint8 and seen[0].pictures.std() > 1
    assert digests(tmp_path / "out") == digests(result)


def test_on_a_slow_device_the_state_is_kept_by_the_clock(small_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.tuning.tune.KEEP_SECONDS", -1.0)
    kept = []
    state = lambda: next((tmp_path / "out" / "tuning").glob("state-*")).read_bytes()
    report = lambda progress: kept.append(state())
    tune(str(small_checkpoint), clip(), ASKED, tmp_path / "out", report, device="cpu", keep_every=1000)
    assert len(set(kept)) == ASKED.steps


def test_the_result_is_in_the_published_layout_and_edits(small_checkpoint, result, tmp_path):
    config = json.loads((result / "unet/config.json").read_text())
    published = json.loads((make_tuned(tmp_path / "published") / "unet/config.json").read_text())
    for field in ("_class_name", "down_block_types", "mid_block_type", "up_block_types"):
        assert config[field] == published[field]
    assert config["lora"] == 4
    index = json.loads((result / "model_index.json").read_text())
    assert index["unet"] == ["video_diffusion.models.unet_3d_condition", "UNetPseudo3DConditionModel"]
    assert digests(small_checkpoint / "vae") == digests(result / "vae")
    editor = Editor.load(str(result), "cpu", "float32")
    image = load(str(small_checkpoint), CPU, torch.float32).profile
    assert editor.checkpoint.profile == tuned(image, 4) and editor.checkpoint.profile.mask_level == 1
    assert editor.checkpoint.image_side == 64
    settings = apply_preset(
        "shape", PROMPT, "a red ball on grass", steps=2, guidance=2.0, keys=("-1", "first"), normalization="clip"
    )
    edited = editor.edit(clip(), settings)
    assert edited.frames.shape == clip().shape and edited.frames.std() > 1 and edited.notes == []
    name = models.add(tmp_path / "home", Model(str(result)), "mine")
    assert models.resolve(tmp_path / "home", name).path == str(result)


def tune_builtin(out: Path, report=lambda _: None) -> None:
    tune("builtin", clip(2), TuneSettings(PROMPT, steps=3, rate=1e-3), out, report, device="cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The built-in model, tuned."""
    out = tmp_path_factory.mktemp("small") / "result"
    tune_builtin(out)
    return out


def test_tuning_the_built_in_model_moves_the_empty_prompt_and_holds_all_others(small):
    """Towards the clip's own prompt; by what it moves, and what prompts with another word are moved by."""
    torch.manual_seed(0)
    before, after = (Editor.load(model, "cpu", "float32") for model in ("builtin", str(small)))
    latents = before.encode(before.geometry(ArrayClip(clip(2))).to_model(clip(2)))
    noisy = Schedule.from_config(before.checkpoint.scheduler_config, 1).noised(latents, torch.randn(latents.shape), 300)

    def predict(editor, prompt):
        embedding = editor.embedding(read_prompt(editor.checkpoint, prompt))
        return editor.unet([noisy], 300, [embedding], Call(("source",), 2, keys=[[1, 1]], pooled_norm=False))[0]

    empty, own = predict(before, ""), predict(before, PROMPT)
    way, moved = own - empty, predict(after, "") - empty
    assert (moved * way).sum() > 0.05 * way.square().sum()
    for prompt in ("a red torus on grass", "a blue cube on grass"):
        held = (predict(after, prompt) - predict(before, prompt)).square().sum()
        assert held < 0.2 * moved.square().sum()


def test_the_tuned_built_in_model_is_an_image_model_that_says_what_it_was_tuned_from(small, result):
    before, after = (Editor.load(model, "cpu", "float32").checkpoint for model in ("builtin", str(small)))
    assert after.profile == before.profile and after.image_side == before.image_side
    weights = after.unet.state_dict()
    changed = {name for name, tensor in before.unet.state_dict().items() if not torch.equal(tensor, weights[name])}
    assert changed == {name for name in weights if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
    assert models.base_of(Model(str(small))) == "builtin" and models.base_of(Model(str(result))) == ""
    assert (
        tuned_already(Model(str(small))) and tuned_already(Model(str(result))) and not tuned_already(Model("builtin"))
    )
    with pytest.raises(EditError, match="tuned on video already"):
        tune(str(small), clip(1), ASKED, small.parent / "again", device="cpu")


def test_a_tuning_of_the_built_in_model_that_was_ended_goes_on_in_the_same_bits(small, tmp_path):
    with pytest.raises(Ended):
        tune_builtin(tmp_path / "out", end_at(2))
    heard = []
    tune_builtin(tmp_path / "out", lambda progress: heard.append(progress.step))
    assert heard == [3] and digests(tmp_path / "out") == digests(small)


@pytest.mark.parametrize("another_vae", ["", "folder", "file"])
def test_a_single_file_becomes_a_folder(small_checkpoint, tmp_path, another_vae):
    base = single(modules("sd2"), "sd2")
    save_file(base, tmp_path / "base.safetensors")
    save_file(
        {name: 2 * tensor for name, tensor in base.items() if "first_stage" in name}, tmp_path / "vae.safetensors"
    )
    vae = {"": "", "folder": str(small_checkpoint), "file": str(tmp_path / "vae.safetensors")}[another_vae]
    model = Model(str(tmp_path / "base.safetensors"), vae=vae, prediction="v_prediction")
    before = load(model, CPU, torch.float32)
    add_fresh_parts(before.unet, rank=4, seed=0)
    save_checkpoint(tmp_path / "out", model, before, before.unet.state_dict(), rank=4)
    after = load(str(tmp_path / "out"), CPU, torch.float32)
    assert after.scheduler_config["prediction_type"] == "v_prediction" and after.profile.needs_whole_clip
    for part in ("unet", "vae", "text_encoder"):
        kept = getattr(after, part).state_dict()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in getattr(before, part).state_dict().items())
    text = "a shiny cube, é"
    assert after.tokenizer(text).input_ids == before.tokenizer(text).input_ids
    assert after.tokenizer.pad_token_id == before.tokenizer.pad_token_id


def test_what_cannot_be_done_is_said(small_checkpoint, result, tmp_path):
    def refused(code, base=small_checkpoint, frames=None, settings=ASKED, out=tmp_path / "new"):
        with pytest.raises(EditError) as caught:
            tune(str(base), clip() if frames is None else frames, settings, out, device="cpu")
        assert caught.value.code == code and caught.value.remedy or code == "frames"
        return caught.value.sentence

    assert "at least one RGB or RGBA frame" in refused("frames", frames=clip()[:0])
    assert "prompt is empty" in refused("settings", settings=replace(ASKED, prompt=" "))
    assert "tuned on video already" in refused("checkpoint", base=result)
    assert "not an empty folder" in refused("not-empty", out=small_checkpoint)
    (tmp_path / "file").write_text("a file")
    assert "not an empty folder" in refused("not-empty", out=tmp_path / "file")
    assert not (tmp_path / "new").exists()
    with pytest.raises(Ended):
        tune(str(small_checkpoint), clip(), ASKED, tmp_path / "begun", end_at(1), device="cpu")
    assert "that is not complete" in refused("not-empty", settings=replace(ASKED, steps=5), out=tmp_path / "begun")


def test_memory_decides_whether_layers_are_computed_again_and_how_many_frames_fit():
    one = 320 * 64 * 64 * 4  # Stable Diffusion 1.x at 512 x 512
    assert not needs_checkpointing(8, one, 24 * 2**30)
    assert needs_checkpointing(8, one, 16 * 2**30)
    with pytest.raises(EditError, match="at most 22 frames") as caught:
        needs_checkpointing(40, one, 16 * 2**30)
    assert caught.value.code == "memory"
    needs_checkpointing(22, one, 16 * 2**30)
    assert needs_checkpointing(8, one, 24 * 2**30, share=0.5), "after it ran out of memory, it takes less"
    with pytest.raises(EditError, match="Close other programs"):
        needs_checkpointing(1, one, -1)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_full_disk_is_said_and_what_was_kept_stays(small_checkpoint, result, tmp_path, step):
    """At the beginning, where a state is kept, and where the checkpoint is written."""
    before, out = resource.getrlimit(resource.RLIMIT_FSIZE), tmp_path / "out"

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))

    try:
        if not step:
            fill()
        with pytest.raises(EditError, match="is full") as caught:
            tune(
                str(small_checkpoint),
                clip(),
                ASKED,
                out,
                end_at(step - step % 2 or 1, fill),
                device="cpu",
                keep_every=1,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code == "disk-full" and caught.value.remedy
    heard = []
    tune(str(small_checkpoint), clip(), ASKED, out, lambda progress: heard.append(progress.step), device="cpu")
    assert heard == list(range(step + 1, 5))
    assert digests(out) == digests(result)
    assert not [path for path in out.rglob("*") if "writing" in path.name or os.path.islink(path)]
