"""The command line: what is passed on, what goes to which environment, what is said."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from buildtools import commands, environments
from buildtools.console import Stop

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command():
    result = subprocess.run([sys.executable, "build.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    for name in ("demo", "test", "extension", "verify", "service", "quality", "protocol", "lint", "clean"):
        assert re.search(rf"^    {name}\b", result.stdout, re.MULTILINE)


def test_verify_passes_arguments_output_and_exit_code(tmp_path, monkeypatch, capfd):
    """Stdout is the engine's alone: its last line must stay the JSON."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()
    (tmp_path / "engine" / "__main__.py").write_text("import sys, json; print(json.dumps(sys.argv[1:])); sys.exit(7)")

    def set_up(cpu):
        environments.say("Setting up.")
        return Path(sys.executable)

    monkeypatch.setattr(environments, "engine", set_up)
    monkeypatch.chdir(tmp_path)
    assert commands.main(["verify", "a case.safetensors", "--checkpoint", "folder", "--json"]) == 7
    out, err = capfd.readouterr()
    assert out == '["verify", "a case.safetensors", "--checkpoint", "folder", "--json"]\n'
    assert err == "Setting up.\n"


def test_two_dashes_pass_on_what_buildpy_knows_itself(monkeypatch):
    passed = []
    monkeypatch.setattr(commands, "bpy_package", lambda version: commands.Host("none", [], []))
    monkeypatch.setattr(commands.Host, "run", lambda host, arguments: passed.append(arguments) or 0)
    assert commands.main(["world", "--", "--help"]) == 0
    assert passed == [["-m", "benchmarks.world", "--help"]]


def test_quality_renders_what_the_benchmark_says_it_needs(tmp_path, monkeypatch, capfd):
    """Its options are the benchmark's own; the clips are Blender's to render, and the edits come after them."""
    (tmp_path / "benchmarks" / "quality").mkdir(parents=True)
    said = 'import sys; print("--count\\n7" if "--clips" in sys.argv else "edits " + " ".join(sys.argv[1:]))'
    for package in ("benchmarks", "benchmarks/quality"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "benchmarks" / "quality" / "__main__.py").write_text(said)
    rendered = []
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "engine", lambda cpu: Path(sys.executable))
    monkeypatch.setattr(commands, "bpy_package", lambda version: commands.Host("none", [], []))
    monkeypatch.setattr(commands.Host, "run", lambda host, arguments: rendered.append(arguments) or 0)
    monkeypatch.chdir(tmp_path)
    assert commands.main(["quality", "--count", "7"]) == 0
    assert rendered == [["-m", "benchmarks.quality.render", "--count", "7"]]
    assert capfd.readouterr().out == "edits --count 7\n"


def test_a_stop_is_one_sentence(monkeypatch, capsys):
    def stop(cpu):
        raise Stop("Make room.")

    monkeypatch.setattr(environments, "engine", stop)
    assert commands.main(["verify", "x"]) == 1
    assert capsys.readouterr().err == "build.py: Make room.\n"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "build.py: No space left on device (some/file): make room and run the same command again.\n"),
        (errno.EACCES, "build.py: Permission denied (some/file): mend that and run the same command again.\n"),
    ],
)
def test_a_disk_that_is_full_or_closed_to_us(number, sentence, monkeypatch, capsys):
    def fail(cpu):
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(environments, "engine", fail)
    assert commands.main(["verify", "x"]) == 1
    assert capsys.readouterr().err == sentence


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(cpu):
        raise KeyboardInterrupt

    monkeypatch.setattr(environments, "engine", interrupted)
    assert commands.main(["verify", "x"]) == 130
    assert "run the same command again to go on" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["clean", "--all"], ["lint", "engine"], ["nothing"], []])
def test_unknown_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refusal:
        commands.main(arguments)
    assert refusal.value.code == 2
    assert "build.py" in capsys.readouterr().err


def test_no_such_blender():
    with pytest.raises(Stop, match="no-such-blender is no Blender that runs here: give the path"):
        commands.host_of(commands.command_line().parse_args(["demo", "--blender", "no-such-blender"]))


def test_tests_go_to_the_environment_that_can_run_them(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in ("tests/protocol", "tests/blender_addon", "tests/benchmarks", "tests/demo"):
        os.makedirs(path)
    Path("tests/benchmarks/test_render.py").touch()
    engine, host = commands.ENGINE_TESTS, commands.HOST_TESTS
    assert commands.tests_among(engine, []) == ["tests/protocol", "tests/benchmarks"]
    assert commands.tests_among(host, []) == ["tests/blender_addon", "tests/benchmarks/test_render.py", "tests/demo"]
    chosen = ["tests/protocol/test_wire.py::test_a", "tests/benchmarks/test_render.py", "tests/blender_addon"]
    assert commands.tests_among(engine, chosen) == chosen[:1]
    assert commands.tests_among(host, chosen) == chosen[1:]
    # A folder that holds both kinds goes to both; the engine's pytest is told to leave the host's alone.
    assert commands.tests_among(engine, ["tests/benchmarks"]) == ["tests/benchmarks"]
    assert commands.tests_among(host, ["tests/benchmarks"]) == ["tests/benchmarks/test_render.py"]
    assert commands.tests_among(host, ["tests"]) == commands.tests_among(host, [])


def test_words_of_a_filter_are_no_paths(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert commands.in_tests("tests/build/test_commands.py::test_help_names_every_command")
    assert not commands.in_tests("engine") and not commands.in_tests("-k") and not commands.in_tests("tests/none.py")


def test_clean_says_what_it_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "BUILD", tmp_path / ".build")
    monkeypatch.setattr(commands, "OUTPUT", tmp_path / "output")
    (tmp_path / ".build").mkdir()
    (tmp_path / ".build" / "file").write_bytes(bytes(3_000_000))
    assert commands.main(["clean"]) == 0
    assert capsys.readouterr().out == "removed .build (3 MB)\noutput is not there\n"
    assert not (tmp_path / ".build").exists()
