"""The command that measures what the add-on costs Blender runs; its figures are for whoever reads them, not for a test."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_panels_menus_preferences_and_ticks_are_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks.addon", "--out", tmp_path / "cost.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "cost.json").read_text())["milliseconds"]
    assert measured.keys() == {"panels", "menu and status bar", "preferences", "tick"}
    assert all(each["median"] > 0 for each in measured.values())
