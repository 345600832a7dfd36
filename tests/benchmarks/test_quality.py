"""The quality benchmark, whole, on a world of squares with a tiny random checkpoint."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from benchmarks.metrics import psnr
from benchmarks.quality import __main__ as command
from benchmarks.quality import blind, figures, report, runs
from benchmarks.quality.ablations import ABLATIONS
from benchmarks.quality.bars import bars
from benchmarks.quality.baselines import BASELINES, METHOD, Strategy
from benchmarks.quality.inside import Inside
from benchmarks.quality.pairs import KINDS, clips_to_render, pair, truth
from benchmarks.quality.trials import TRIALS, as_it_is, drift_corrected
from engine.editing import Editor
from tests.benchmarks.flat_world import flat_passes

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoint"
PROFILE = {"inject_levels": [1, 2, 3], "mask_level": 1, "mask_places": ["down", "up"], "anchor_levels": [1, 2, 3]}
NUMBERS = range(5)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("quality")
    for number in NUMBERS:
        for scene, place in clips_to_render(pair(number), folder / "world"):
            place.mkdir(parents=True)
            np.savez(place / "passes.npz", **flat_passes(scene))
    # The tiny checkpoint, made for pictures of 64 x 64.
    shutil.copytree(CHECKPOINT, folder / "model")
    (folder / "model" / "profile.json").write_text(json.dumps(PROFILE | {"image_side": 64}))
    strategies = (Strategy(METHOD), *BASELINES)
    job = runs.Job(str(folder / "model"), folder / "world", folder / "edits", 2, 5, strategies, reconstruct_every=2)
    edits = [edit for number in NUMBERS for edit in runs.run_pair(job, number)]
    return report.Results(job, "python build.py quality", edits)


def test_every_strategy_edits_every_pair_its_own_way(results):
    assert results.strategies == [METHOD, *(strategy.name for strategy in BASELINES)]
    for number in NUMBERS:
        edits = {edit.strategy: edit for edit in results.edits if edit.number == number}
        assert len(edits) == len(results.strategies)
        known = truth(pair(number), results.job.world, 2)
        clips = {name: edit.frames for name, edit in edits.items()}
        assert all(clip.shape == known.source.shape for clip in clips.values())
        # Where no word names a place the edit is made once for both.
        same = edits["no blend mask"].folder == edits[METHOD].folder
        assert same == (not Strategy(METHOD).settings(pair(number), 5, results.job.model).blend_source)
        # Masks of a random checkpoint may be everywhere, and then change nothing.
        different = [clip.tobytes() for name, clip in clips.items() if name != "no blend mask"]
        # The squares stand still: keys of the middle frame are every frame's own.
        assert len(set(different)) >= len(different) - 1


def test_a_finished_edit_is_not_made_again_and_a_lost_one_is(results):
    edit = results.of(METHOD)[0]
    before, frames = {path: path.stat().st_mtime_ns for path in edit.folder.iterdir()}, edit.frames
    again = runs.run_pair(results.job, edit.number)[0]
    assert again == edit and before == {path: path.stat().st_mtime_ns for path in edit.folder.iterdir()}
    for path in before:
        path.unlink()
    assert np.array_equal(runs.run_pair(results.job, edit.number)[0].frames, frames)
    other = runs.run_pair(replace(results.job, steps=2, strategies=(Strategy(METHOD),)), edit.number)[0]
    assert other.folder != edit.folder


def test_the_json_has_the_keys_of_its_definition(results, tmp_path):
    report.write(results, tmp_path)
    written = json.loads((tmp_path / "quality.json").read_text())
    assert set(written) == {"model", "command", "count", "kinds", "reconstruction", "bars", "baselines"}
    assert written["count"] == 5 and set(written["baselines"]) == {strategy.name for strategy in BASELINES}
    assert set(written["reconstruction"]) == {"psnr", "ceiling_psnr"}
    for kinds in (written["kinds"], *written["baselines"].values()):
        assert tuple(kinds) == KINDS
        for values in kinds.values():
            assert tuple(values) == report.KIND_KEYS and 0 <= values["success"] <= 1
    assert written["kinds"]["attribute"]["mask_iou"] is not None and written["kinds"]["style"]["mask_iou"] is None
    page = (tmp_path / "quality.md").read_text()
    for name in ["quality-baselines.png", *(f"quality-{kind}.png" for kind in KINDS)]:
        assert f"({name})" in page and (tmp_path / name).stat().st_size > 1000
    assert all(f"| {strategy} |" in page for strategy in results.strategies)
    assert all(f"| {bar} |" in page for bar in written["bars"]) and "bars are met" in page


def test_a_right_answer_is_a_success_and_the_source_is_none(results):
    for number in NUMBERS:
        known = truth(pair(number), results.job.world, 2)
        coded = {"source": known.source, "target": known.target}
        right = figures.figures(known, known.target, None, coded, 0.3)
        if pair(number).kind != "object":  # in the world of squares every shape is a square
            assert right["success"] and right["region_psnr"] == np.inf and right["truth_ssim"] == pytest.approx(1)
        assert not figures.figures(known, known.source, None, coded, 0.3)["success"]
        if known.other is not None:
            both = known.target.copy()
            both[known.other[0]] = known.other[2][0][known.other[0]]
            assert not figures.figures(known, both, None, coded, 0.3)["success"]


def test_a_bar_is_met_or_missed_and_what_was_not_measured_has_none():
    figures_of = {
        "attribute": {
            "success": 0.9,
            "background_psnr": 30.0,
            "ceiling_psnr": 33.5,
            "mask_iou": 0.6,
            "mask_ratio": 0.7,
        },
        "style": {"success": 0.8, "background_psnr": None, "ceiling_psnr": None, "mask_iou": None, "mask_ratio": None},
        "all": {"success": 0.85, "warp_ratio": 1.2},
    }
    met = {bar.name: bar.met for bar in bars(figures_of, {"psnr": 30.0, "ceiling_psnr": 32.0})}
    assert met == {
        "success, attribute": True,
        "background, attribute: dB below the autoencoder's": False,
        "preview mask IoU, attribute": True,
        "paper's mask, attribute: share of its grid's best": False,
        "success, style": False,
        "warp error to the source's": True,
        "reconstruction: dB below the autoencoder's": False,
    }
    assert len(bars(figures_of, {"psnr": None, "ceiling_psnr": None})) == len(met) - 1


def test_warp_errors_are_compared_in_sum():
    rows = [
        {"success": True, "warp": 1.0, "source_warp": 0.0},
        {"success": False, "warp": 2.0, "source_warp": 2.0},
        {"success": True, "warp": float("nan"), "source_warp": float("nan")},
    ]
    summary = figures.summary(rows)
    assert summary["warp_ratio"] == 1.5 and summary["success"] == pytest.approx(2 / 3) and summary["count"] == 3


def test_the_blind_page_holds_every_comparison_and_no_address(results, tmp_path):
    blind.write(results, tmp_path / "blind.html")
    page = (tmp_path / "blind.html").read_text()
    data = json.loads(page.split("const data = ", 1)[1].split(";\n", 1)[0])
    differing = sum(
        edit.folder != mine.folder
        for mine in results.of(METHOD)
        for edit in results.edits
        if edit.number == mine.number
    )
    assert len(data["rounds"]) == differing and data["frames"] == 2
    for comparison in data["rounds"]:
        assert {f"{comparison['pair']} {method}" for method in comparison["methods"]} <= set(data["clips"])
    assert "http" not in page.replace("data:image", "")


def test_every_ablation_is_another_edit(results):
    changed = [repr((its.run, [its.settings(pair(number), 20) for number in NUMBERS])) for its in ABLATIONS]
    plain = repr((None, [Strategy(METHOD).settings(pair(number), 20) for number in NUMBERS]))
    assert len({*changed, plain}) == len(changed) + 1
    # The trials go into the engine's loops: each makes an edit, and none the same as another but for its masks.
    edits = runs.run_pair(replace(results.job, strategies=TRIALS), 3)  # a change of shape: it has blend words
    assert [edit.strategy for edit in edits] == [trial.name for trial in TRIALS]
    clips = {edit.strategy: edit.frames for edit in edits}
    assert {clip.shape for clip in clips.values()} == {results.of(METHOD)[0].frames.shape}
    # This checkpoint's presets are the paper's, whose guidance is the same in all steps.
    unguided = clips.pop("guidance the same in all steps")
    assert np.array_equal(unguided, clips["the loops alone"])
    unmasked = [clip.tobytes() for name, clip in clips.items() if "maps" not in name]
    assert len(set(unmasked)) == len(unmasked)


def test_without_its_drift_a_guided_reconstruction_is_the_inversion_run_backwards(results):
    number = next(number for number in NUMBERS if pair(number).kind == "style")  # nothing is masked
    known = truth(pair(number), results.job.world, 2)
    settings = Strategy(METHOD).settings(pair(number), 5, results.job.model)
    inside = Inside(
        Editor.load(results.job.model, precision="float32"),
        known.source,
        msgspec.structs.replace(settings, guidance=7.5),
    )
    inside.plan = replace(inside.plain_plan(), target=inside.plan.source)
    exact, drifted = inside.frames(inside.latents), as_it_is(inside)
    # Rounding alone grows by an order of magnitude a step in a random network.
    assert psnr(drift_corrected(inside), exact) > psnr(drifted, exact) + 15


def test_quick_is_one_pair_of_each_kind_and_writes_no_results():
    quick, whole = command.parse(["--quick"]), command.parse([])
    assert (quick.count, quick.no_baselines) == (len(KINDS), True) and quick.out != whole.out
    assert whole.count >= 40 and not whole.no_baselines
    assert command.command(quick) == "python build.py quality --quick --model builtin"
