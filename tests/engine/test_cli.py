"""The command line, as a user runs it: a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from PIL import Image

from engine.cli import edit
from engine.cli.edit import _mask_paths
from engine.clips import read_clip, write_clip
from protocol import models
from protocol.settings import EditSettings, Window, apply_preset

DATA = Path(__file__).parents[1] / "data"
ROOT = Path(__file__).parents[2]
PROMPTS = ("--source", "a red cube on grass", "--target", "a blue cube on grass")


def engine(*arguments, code=0) -> str:
    """What a command said; on standard error where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def images(folder: Path, frames=5) -> Path:
    folder.mkdir()
    for k in range(frames):
        Image.fromarray(np.full((40, 60, 3), 20 * k, np.uint8)).save(folder / f"shot_{k:03}.png")
    return folder


def test_edit_of_a_trimmed_folder_with_masks(tmp_path, small_checkpoint):
    said = engine(
        "edit", images(tmp_path / "in"), *PROMPTS, "--model", small_checkpoint, "--steps", 2, "--frames", "1:4",
        "--weight", "blue=3", "--self-window", "0.5", "--masks", "cube", "--out", tmp_path / "out",
    )  # fmt: skip
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["00001.png", "00002.png", "00003.png"]
    assert len(list((tmp_path / "out-mask-cube").iterdir())) == 3
    assert "3 frames" in said


def test_edit_of_a_video_gives_a_video(tmp_path, small_checkpoint):
    write_clip(tmp_path / "in.mp4", np.full((4, 41, 60, 3), 90, np.uint8), 24)
    engine(
        "edit", tmp_path / "in.mp4", *PROMPTS, "--model", small_checkpoint, "--steps", 1, "--out", tmp_path / "o.mp4",
        "--keyframe-step", 2, "--steady", 1,
    )  # fmt: skip
    frames, rate = read_clip(tmp_path / "o.mp4")
    assert frames.shape == (4, 42, 60, 3) and rate == 24


def test_what_cannot_be_done_is_one_sentence(tmp_path, small_checkpoint):
    out = ("--out", tmp_path / "out")
    folder = images(tmp_path / "in", 1)
    assert "no file or folder" in engine("edit", tmp_path / "none", *PROMPTS, *out, code=1)
    assert "target prompt is empty" in engine("edit", folder, "--source", "a", *out, code=1)
    assert "not a word of the source" in engine("edit", folder, *PROMPTS, "--masks", "dog", *out, code=1)
    assert "name the words that may change" in engine(
        "edit", folder, *PROMPTS, "--preset", "style", "--keep-background", *out, code=1
    )
    assert "Known by name are: builtin" in engine("edit", folder, *PROMPTS, "--model", "buitlin", *out, code=1)
    assert "or as a folder of PNGs" in engine("edit", folder, *PROMPTS, "--out", tmp_path / "out.avi", code=1)
    assert "has no frames from 5 to its end. Choose an earlier range." in engine(
        "edit", folder, *PROMPTS, "--frames", "5:", *out, code=1
    )
    for option, value, words in (
        ("--frames", "5:3", "END beyond START"),
        ("--frames", "a:b", "must be START:END"),
        ("--cross-window", "x", "must be END or START:END"),
        ("--weight", "blue=much", "'much' in 'blue=much' is no number"),
    ):
        assert words in engine("edit", folder, *PROMPTS, option, value, *out, code=2)
    taken = engine("edit", folder, *PROMPTS, "--out", folder, code=1)
    assert "is not an empty folder" in taken
    (tmp_path / "out-mask-cube").mkdir()
    (tmp_path / "out-mask-cube" / "mine.txt").touch()
    assert "is not an empty folder" in engine("edit", folder, *PROMPTS, "--masks", "cube", *out, code=1)
    (tmp_path / "empty").mkdir()
    assert "has no frames" in engine("edit", tmp_path / "empty", *PROMPTS, *out, code=1)
    (tmp_path / "text.mp4").write_text("not a video")
    assert "cannot be read as a video" in engine("edit", tmp_path / "text.mp4", *PROMPTS, *out, code=1)
    assert not (tmp_path / "out").exists()


def test_masks_of_words_that_look_alike_in_a_name_are_kept_apart():
    paths = _mask_paths(Path("out.mp4"), ("a-b", "cube", "a_b", "cube"))
    assert [path.name for path in paths.values()] == ["out-mask-a_b.mp4", "out-mask-cube.mp4", "out-mask-a_b2.mp4"]


def test_tune_makes_a_checkpoint_that_models_add_names(tmp_path, small_checkpoint):
    folder, out = images(tmp_path / "in"), tmp_path / "tuned"
    what = ("tune", folder, "--prompt", "a red cube on grass", "--model", small_checkpoint, "--out", out)
    said = engine(
        *what, "--frames", "1:4", "--steps", 2, "--rank", 4, "--rate", "1e-3", "--seed", 3,
        "--samples", tmp_path / "samples", "--sample-every", 2,
    )  # fmt: skip
    assert "tuned on 3 frames" in said
    assert len(read_clip(tmp_path / "samples/000002.mp4")[0]) == 3
    said = engine("models", "add", out, "--name", "mine", "--home", tmp_path / "home")
    assert "mine: tuned on video, made for 64 x 64" in said
    assert "must be above 0" in engine(*what, "--steps", 0, code=2)
    for rate in ("inf", "nan", "1", "0"):
        assert "must be above 0, and 0.1 at most" in engine(*what, "--rate", rate, code=2)
    for seed in (-1, 2**64):
        assert "must be a whole number from 0 to 2**64 - 1" in engine(*what, "--seed", seed, code=2)


def test_every_setting_but_ones_own_masks_is_an_option():
    asked = ["in", "--out", "out", "--source", "a cube", "--target", "a torus", "--preset", "shape"]
    options = edit._parser().parse_args([*asked, "--no-blend-attention", "--blend-steps", "0.1:0.9"])
    settings = edit.settings_of(options)
    assert (settings.blend_attention, settings.blend_steps) == (False, Window(0.1, 0.9))
    assert edit.settings_of(edit._parser().parse_args([*asked, "--blend-attention"])).blend_attention
    of_draft = "full_steps"  # what --draft notes of the whole edit
    assert {name for name in EditSettings.__struct_fields__ if not hasattr(options, name)} == {"own_mask", of_draft}


def test_a_model_tuned_from_the_built_in_one_edits_with_its_presets(tmp_path):
    """Whether it is given by its path, or by the name that the engine knows it by."""
    words, folder = ("a red cube on grass", "a red torus on grass"), tmp_path / "tuned"
    folder.mkdir()
    (folder / models.PROFILE_FILE).write_text('{"base": "builtin"}')
    models.add(tmp_path / "home", models.Model(str(folder)), "mine")
    for name in (str(folder), "mine"):
        asked = ["in", "--out", "out", "--source", words[0], "--target", words[1], "--preset", "shape", "--model", name]
        base = models.base_of(edit.model_of(tmp_path / "home", name))
        small = apply_preset("shape", *words)
        assert edit.settings_of(edit._parser().parse_args(asked), base) == replace(small, model=name)


def test_verify_ends_with_one_line_of_json():
    said = engine("verify", DATA / "cases/reconstruct.safetensors", "--checkpoint", DATA / "checkpoint", "--json")
    figures = json.loads(said.strip().splitlines()[-1])
    assert figures["inversion_max_abs_error"] < 1e-4 and figures["edited_relative_error"] < 1e-3
    assert set(figures) == {
        "inversion_max_abs_error", "edited_relative_error", "mask_disagreement", "seconds", "attention_bytes",
    }  # fmt: skip
    assert "is no case file" in engine("verify", DATA / "checkpoint/model_index.json", "--checkpoint", DATA, code=1)


def test_doctor_names_a_broken_checkpoint(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "engine", "doctor", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 1 and "lacks model_index.json" in said.stdout
