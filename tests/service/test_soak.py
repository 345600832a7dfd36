"""The measurements of the service in their short form: processes killed at random moments cost no work."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.service import __main__ as command

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
