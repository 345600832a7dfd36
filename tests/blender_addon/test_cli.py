"""The command line: what scripts and farms get, in words, in JSON and as exit codes."""

from __future__ import annotations

import json

import bpy
import pytest

from tests.blender_addon.conftest import new_file, random_frames, reach, stop_engine, write_png

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def clips(project):
    made = [project.image_strip(name, count=1, start=10 + 10 * number) for number, name in enumerate("ab")]
    for strip in made:
        strip.select = False
    project.prompts(steps=1)
    project.save()
    return made


@pytest.fixture
def run(addon, capsys):
    """A command's exit code, and its answer in JSON if it gave one."""

    def run(*arguments: str):
        capsys.readouterr()
        code = addon.cli.run([*arguments, "--json"])
        out = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        return code, json.loads(out[-1]) if out else None

    return run


def test_it_edits_saves_and_then_finds_all_up_to_date(addon, project, clips, run):
    code, told = run("render", "--strip", "a", "--strip", "b", "--save")
    assert (code, told["done"], told["failed"]) == (0, 2, 0)
    assert [(row["strip"], row["state"], row["result"]) for row in told["strips"]] == [
        ("a", "done", "a FateZero"),
        ("b", "done", "b FateZero"),
    ]
    new_file()
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    code, told = run("render", "--all", "--stale-only")
    assert (code, told["done"], told["skipped"]) == (0, 0, 2)
    assert [row["reason"] for row in told["strips"]] == ["'a FateZero' is up to date.", "'b FateZero' is up to date."]
    (path,) = (project.folder / "media" / "b").iterdir()
    write_png(path, random_frames(1, (64, 48), False, 77)[0])
    assert {row["strip"]: row["state"] for row in run("list")[1]["strips"]} == {
        "a": "editable", "a FateZero": "up to date", "b": "editable", "b FateZero": "stale",
    }  # fmt: skip
    code, told = run("render", "--all", "--stale-only")
    assert (code, told["done"], told["skipped"]) == (0, 1, 1)
    assert len(addon.versions.of(project.strips["b FateZero"])) == 2
    assert run("render", "--channel", "2")[1]["done"] == 2  # without --stale-only: all that was made, anew


def test_strips_in_a_file_that_cannot_be_saved_come_into_it_later(addon, project, clips, run, capsys):
    blocked = project.path.with_name(f"{project.path.name}@")  # Blender writes there first
    blocked.mkdir()
    code, told = run("render", "--strip", "a", "--save")
    assert (code, told["done"]) == (1, 1)
    assert addon.cli.run(["render", "--strip", "b", "--save"]) == 1
    said = capsys.readouterr().err
    assert f"{project.path} is not saved: the new strips come when it is opened next." in said
    blocked.rmdir()
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    reach(addon.jobs.session, "done")
    assert sorted(project.strips.keys()) == ["a", "a FateZero", "b", "b FateZero"]


def test_targets(addon, project, clips, run):
    clips[0].select = True
    code, told = run("render", "--selected", "--target", "a green ball", "--target", "a white ball")
    assert (code, [row["target"] for row in told["strips"]]) == (0, ["a green ball", "a white ball"])
    assert sorted(strip.channel for strip in project.strips) == [1, 1, 2, 3]


def test_exit_codes(addon, project, clips, run, monkeypatch):
    assert run("render")[0] == 2
    assert run("paint")[0] == 2
    assert run("render", "--strip", "nobody")[0] == 4
    assert run("render", "--all")[0] == 4  # nothing was made yet, and no target is named
    assert run("render", "--all", "--scene", "nowhere")[0] == 4
    assert run("render", "--strip", "a", "--engine", "127.0.0.1:9")[0] == 2
    assert run("render", "--strip", "a", "--engine", "127.0.0.1:9," + "0" * 64)[0] == 3
    assert addon.cli.run(["--help"]) == 0
    project.prompts(target="")
    assert run("render", "--strip", "a")[0] == 1
    project.prompts(model_folder="/no/such/checkpoint")
    code, told = run("render", "--strip", "a")
    assert (code, told["done"], told["failed"]) == (1, 0, 1)
    assert "/no/such/checkpoint" in told["strips"][0]["error"]
    stop_engine(addon)
    monkeypatch.delenv("FATEZERO_ENGINE_PYTHON")
    assert run("render", "--strip", "a")[0] == 3


def test_the_first_engine_that_answers(addon, project, clips, run):
    code, told = run("render", "--strip", "a", "--engine", "127.0.0.1:9," + "0" * 64, "local")
    assert (code, told["done"]) == (0, 1)
    assert addon.chosen.instead is None


def test_status(addon, project, clips, run):
    stop_engine(addon)
    assert run("status") == (0, {"engine": "not running", "jobs": []})
    project.select(clips[0])
    project.prompts(steps=900)
    job = addon.operators.edit.begin(bpy.context)
    reach(addon.jobs.session, "running")
    code, told = run("status")
    assert code == 0 and told["engine"].startswith("ready, version")
    assert [(row["job"], row["strip"], row["state"]) for row in told["jobs"]] == [(job.id, "a", "running")]
    addon.jobs.session.cancel(job)
    reach(addon.jobs.session, "cancelled")


def test_words_for_people(addon, project, clips, capsys):
    assert addon.cli.run(["render", "--strip", "a"]) == 0
    out = capsys.readouterr().out
    assert "a (a blue ball): done" in out and "1 of 1 done" in out and "use --save" in out
    assert addon.cli.run(["list"]) == 0
    assert "a FateZero  up to date" in capsys.readouterr().out
    assert addon.cli.run(["status"]) == 0
    assert "Engine: ready" in capsys.readouterr().out
