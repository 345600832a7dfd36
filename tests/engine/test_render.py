"""One shot as a task of a farm: `python -m engine render`, its lines and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.cli.render import EXIT_CODES, REFUSED, STOPPED, TRY_AGAIN, UNREADABLE_JOB
from protocol import farm_job
from protocol.settings import apply_preset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shot(tmp_path, small_checkpoint):
    """Write a job file with its frames."""

    def make(name: str, count: int = 3, **changes) -> Path:
        folder = tmp_path / name
        (folder / "frames").mkdir(parents=True)
        source = np.random.default_rng(5)
        for number in range(count):
            pixels = source.integers(0, 256, (32, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "frames" / f"{number:05}.png")
        values = dict(steps=2, model=str(small_checkpoint), mask_words=("ball",))
        return farm_job.write(
            folder, apply_preset("attribute", "a red ball", "a blue ball", **(values | changes)), name, 24
        )

    return make


def start(job: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "engine", "render", str(job), "--device", "cpu", "--threads", "1", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def render(job: Path, *options: str) -> tuple[int, list[dict]]:
    process = start(job, *options)
    out, error = process.communicate(timeout=300)
    assert "Traceback" not in error, error
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_a_shot_is_rendered_once(shot, tmp_path):
    job = shot("shot")
    code, lines = render(job)
    assert code == 0 and [line["event"] for line in (lines[0], lines[-1])] == ["began", "done"]
    fractions = [line["fraction"] for line in lines if line["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    result = job.parent / "result"
    names = [f"{kind}/{number:05}.png" for kind in ("frames", "masks/ball") for number in (1, 2, 3)]
    assert sorted(files(result)) == names
    assert not [path for path in job.parent.iterdir() if "work" in path.name], "nothing is left over"
    stamp = (result / "frames" / "00001.png").stat().st_mtime_ns
    code, lines = render(job)
    assert code == 0 and lines == [{"event": "done", "frames": 3, "out": str(result), "again": True}]
    assert (result / "frames" / "00001.png").stat().st_mtime_ns == stamp
    again = json.loads(job.read_text())
    again["settings"]["guidance"] = 3.0
    job.write_text(json.dumps(again))
    code, lines = render(job)
    assert code == 0 and not lines[-1]["again"], "another job by that name is another result"


def edit_steps(lines: Iterable[dict]) -> Iterator[int]:
    """The steps of the edit that a task's lines tell of, two a second at most."""
    for told in lines:
        if told["event"] == "progress" and told["stage"] == "edit":
            yield told["step"]


def test_a_stopped_and_a_killed_task_go_on_and_come_out_the_same(shot):
    quiet, disturbed = (shot(name, steps=100) for name in ("quiet", "disturbed"))  # many seconds: it is stopped midway
    assert render(quiet)[0] == 0
    reached = 0
    for how, code in ((signal.SIGTERM, STOPPED), (signal.SIGKILL, -signal.SIGKILL)):
        process = start(disturbed)
        steps = edit_steps(map(json.loads, process.stdout))
        first = next(steps)
        assert first >= reached, "a step was done again"
        reached = next(steps)
        process.send_signal(how)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert not (disturbed.parent / "result").exists(), "a result is there whole or not at all"
    code, lines = render(disturbed)
    assert code == 0 and lines[0]["resumed"]
    assert next(edit_steps(lines)) >= reached
    assert files(disturbed.parent / "result") == files(quiet.parent / "result")


def test_exit_codes_tell_whose_fault_it_is(shot, tmp_path):
    empty = tmp_path / "JOB.json"
    empty.write_text("{")
    assert render(empty)[0] == UNREADABLE_JOB
    unknown = shot("unknown", model="no-such-model")
    code, lines = render(unknown, "--home", str(tmp_path / "home"))
    assert code == TRY_AGAIN and lines[-1]["code"] == "unknown-model" and lines[-1]["sentence"]
    wrong = shot("wrong")
    job = json.loads(wrong.read_text())
    job["settings"]["mask_words"] = ["cube"]
    wrong.write_text(json.dumps(job))
    code, lines = render(wrong)
    assert code == REFUSED and "cube" in lines[-1]["sentence"]


def test_help_lists_every_exit_code():
    command = [sys.executable, "-m", "engine", "render", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning}" in told


def test_a_folder_with_other_files_does_not_make_room_for_a_result(shot):
    job = shot("taken")
    frames = files(job.parent / "frames")
    again = json.loads(job.read_text()) | {"out": "frames"}
    job.write_text(json.dumps(again))
    code, lines = render(job)
    assert code == REFUSED and [line["event"] for line in lines] == ["failed"] and lines[0]["code"] == "exists"
    assert "no result of an edit" in lines[0]["sentence"] and files(job.parent / "frames") == frames
