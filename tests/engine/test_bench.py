"""The bench in a tiny form, and the modules that it makes up."""

import json

import numpy as np
import pytest
import torch

from engine.bench import SlidingClip
from engine.editing import Editor
from engine.models.untrained import random_sd15
from tests.engine.test_cli import engine

KEYS = {
    "model", "size", "frames", "steps", "mode", "job_over_floor", "seconds", "peak_device_bytes", "peak_ram_bytes",
}  # fmt: skip


def test_a_tiny_bench_writes_its_figures(tmp_path, small_checkpoint):
    out = tmp_path / "results" / "speed.json"
    asked = ("--model", small_checkpoint, "--size", "128x64", "--frames", 1, 3, "--steps", 2, "--device", "cpu")
    said = engine("bench", *asked, "--out", out)
    assert "plain UNet, 8 rows a call" in said and said.count("second prompt through first") == 2
    result = json.loads(out.read_text())
    assert set(result) == {"device", "command", "rows"} and "CPU" in result["device"]
    assert result["command"].startswith("python -m engine bench --model")
    rows = result["rows"]
    assert [(row["frames"], row["mode"]) for row in rows] == [
        (frames, mode)
        for frames in (1, 3)
        for mode in ("first prompt", "second prompt", "first prompt, attention kept")
    ]
    for row in rows:
        assert set(row) == KEYS and (row["size"], row["steps"], row["peak_device_bytes"]) == ("128x64", 2, 0)
        assert row["seconds"] > 0 and row["job_over_floor"] > 0.5 and row["peak_ram_bytes"] > 0


def test_a_breakdown_accounts_for_the_whole_job(tmp_path, small_checkpoint):
    out = tmp_path / "breakdown.json"
    asked = ("--model", small_checkpoint, "--breakdown", "--frames", 2, "--steps", 2, "--device", "cpu")
    said = engine("bench", *asked, "--out", out)
    taken = json.loads(out.read_text())
    job, unet = taken["job"], taken["unet"]
    assert all(name in said for name in (*job, *unet))
    whole = job.pop("whole job")
    assert sum(job.values()) == pytest.approx(whole) and 0 <= job["rest"] < whole / 2
    nothing_to_do = {"masks of steps", "masks' edges from pictures", "source's pixels laid over"}
    assert {name for name, seconds in job.items() if not seconds} <= nothing_to_do
    rows = sum(seconds for name, seconds in job.items() if name.startswith("UNet"))
    assert sum(seconds for name, seconds in unet.items() if not name.startswith("of it")) == pytest.approx(rows)
    assert min(unet.values()) > 0


def test_the_clip_slides_and_is_read_in_parts():
    clip = SlidingClip(40, 48, 32)
    assert clip.shape == (40, 32, 48, 3) and clip[5:8].shape == (3, 32, 48, 3)
    assert np.array_equal(clip[[7]][0], clip[5:8][2])
    assert np.array_equal(clip[1:2][0][:, :-1], clip[0:1][0][:, 1:])
    assert clip.digest != SlidingClip(41, 48, 32).digest


def test_random_modules_have_stable_diffusions_size():
    """Without their weights: only shapes are made."""
    checkpoint = random_sd15(torch.device("meta"), torch.float16)
    sizes = [
        sum(weight.numel() for weight in module.parameters())
        for module in (checkpoint.unet, checkpoint.vae, checkpoint.text_encoder)
    ]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]
    assert checkpoint.factor == 8 and checkpoint.vae.dtype == torch.float32
    assert checkpoint.unet.dtype == checkpoint.text_encoder.dtype == torch.float16
    geometry = Editor(checkpoint).geometry(np.empty((1, 512, 896, 3), np.uint8))
    assert geometry.padded[0] * geometry.padded[1] == pytest.approx(512**2, rel=0.15)
