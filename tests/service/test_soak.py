"""The measurements of the service in their short form: processes killed at random moments cost no work."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest

from benchmarks.service import __main__ as command
from benchmarks.service.kills import Kept, ended_with
from benchmarks.service.stage import Stage
from tests.service.harness import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def test_killed_processes_cost_no_work_and_the_rest_is_measured(tmp_path, capsys, monkeypatch):
    """A few rounds of all; the seed is printed with a failure."""
    arguments = ["--quick", "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    first = capsys.readouterr().out
    kept = {path.stem: json.loads(path.read_text())["figures"] for path in tmp_path.iterdir()}
    assert kept["kills"]["rounds"] == command.QUICK["rounds"]
    assert (kept["kills"]["jobs_lost"], kept["kills"]["faults"]) == (0, [])
    options = command.sections(command.argparse.Namespace(**command.QUICK))
    assert {section.name for section in options} == kept.keys()
    summary = command.summary(kept, options, "a command")
    assert summary.keys() >= {"kill_rounds", "jobs_lost", "ping_p50_ms", "ping_p99_ms", "jobs_run", "fuzz_executions"}
    assert summary.keys() - {"command"} == summary["commands"].keys() | {"commands"}
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == first, "what is done is kept"


def test_what_was_kept_at_a_kill_is_seen(tmp_path):
    """Without it the rounds above could not find a step that is done again."""
    stage, since = Stage(tmp_path), time.time()
    with ended_with(stage.start()) as engine, engine.connect() as connection:
        connection.submit("long", stage.settings(steps=200), stage.clip(2))
        wait_until(lambda: Kept.of(stage.home, "long", since).inverted > 3, "steps of the inversion", PATIENCE)
        assert Kept.of(stage.home, "long", since).edited == 0
        wait_until(lambda: Kept.of(stage.home, "long", since).edited > 3, "steps of the edit", PATIENCE)
        engine.end(signal.SIGKILL)
    assert Kept.of(stage.home, "long", since).inverted == 200
