"""The demo as `build.py demo` runs it: a process of its own, with the built-in model."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUDGET_SECONDS = 1200
"""Not a bar for the demo's speed: what a hung one is stopped by."""


def demo(out: Path, *options: str) -> subprocess.CompletedProcess:
    """Run the demo with `options` into `out`."""
    script = ROOT / "benchmarks" / "demo.py"
    own = {name: value for name, value in os.environ.items() if name != "BLENDER_USER_RESOURCES"}
    command = [sys.executable, script, "--out", out, *options]
    return subprocess.run(command, env=own, capture_output=True, text=True, timeout=BUDGET_SECONDS)


def test_the_demo_recolours_the_ball_and_leaves_the_rest(tmp_path):
    out = tmp_path / "demo"
    done = demo(out)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    figures = report["metrics"]
    assert figures["success"] and figures["nearest_clip"] == "green"
    assert figures["object_psnr_to_right_answer"] > figures["object_psnr_to_source"] + 6
    assert figures["background_psnr"] > 27 > figures["object_psnr_to_source"]
    assert {"render the clip", "edit the strip", "engine: invert", "engine: edit"} <= set(report["seconds"])
    assert {"blender", "torch", "diffusers"} <= set(report["versions"])
    assert len(list(Path(report["edited"]).glob("*.png"))) == report["frames"] == 8
    for name in ("demo.blend", "contact-sheet.png", "side-by-side.mp4"):
        assert (out / name).stat().st_size > 1000, name
    assert "edit" in done.stdout and str(out / "contact-sheet.png") in done.stdout


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = demo(tmp_path)
    assert done.returncode == 1 and "holds other files, such as thesis.txt" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
