"""Tuning a model on a strip, from the button to the panel that has the new model, through the real engine process."""

from __future__ import annotations

import json
from types import SimpleNamespace

import bpy
import msgspec
import pytest

from protocol.tuning import Tuning, usual
from tests.blender_addon.conftest import reach, tick_until, wait_until
from tests.blender_addon.test_panels import Layout

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    yield addon.jobs.session
    home = addon.folders.home_folder()
    for name in addon.protocol.models.known(home):
        if name.startswith("test-"):
            addon.protocol.models.remove(home, name)


@pytest.fixture
def strip(project):
    strip = project.image_strip(count=3)
    project.select(strip)
    project.save()
    return strip


def begin(addon, name: str, steps: int, use: bool = True):
    """Begin as the dialog does, and leave the rest to the timer."""
    source, settings = addon.operators.tune._plan(bpy.context)
    return addon.tuned.begin(source, settings, name, steps, use)


def at_work(session, job, after: int = 0) -> None:
    tick_until(session, lambda: (job.stage == "tune" and job.step > after) or job.final)
    assert job.state == "running", (job.state, job.trouble)


def test_a_model_is_made_chosen_used_and_removed(addon, project, session, strip):
    before = [strip.name for strip in project.strips]
    assert bpy.ops.fatezero.tune_on_strip(name="test-mine", steps=3) == {"FINISHED"}
    job = session.job
    assert (job.state, job.task, job.model, job.trouble, job.result) == ("done", "tune", "test-mine", None, "")
    assert [strip.name for strip in project.strips] == before and not (project.folder / "fatezero").exists()
    assert addon.notices.sentence(job) == "The model 'test-mine', tuned on 'clip', is there"
    settings = project.scene.fatezero
    assert (settings.model, settings.model_name, settings.preset) == ("NAMED", "test-mine", "shape")
    assert addon.checkpoints.names(addon.folders.home_folder())[-1] == "test-mine"
    amount = addon.estimates.amount_of(job.source, job.settings, job.tuning)
    once = addon.estimates.of([amount], job.engine).seconds
    twice = addon.estimates.of([amount._replace(steps=6)], job.engine).seconds
    assert 0 < once < twice, "from now on it can be told how long a tuning takes"

    with pytest.raises(RuntimeError, match="Another model is called 'test-mine'"):
        bpy.ops.fatezero.tune_on_strip(name="test-mine", steps=3)
    assert len(session.jobs) == 1, "before anything is exported"
    with pytest.raises(RuntimeError, match="cannot be called 'a b'"):
        bpy.ops.fatezero.tune_on_strip(name="a b", steps=3)

    edit = addon.operators.edit.begin(bpy.context)
    addon.jobs.wait(300)
    assert (edit.state, edit.trouble, edit.settings.model) == ("done", None, "test-mine")
    with pytest.raises(RuntimeError, match="tuned on video already"):
        project.select(strip)
        bpy.ops.fatezero.tune_on_strip(name="test-again", steps=3)

    (folder,) = (addon.folders.home_folder() / "tuned").glob("test-mine-*")
    bpy.ops.fatezero.list_checkpoints()
    wait_until(lambda: not addon.checkpoints.current.running)
    (mine,) = [known for known in addon.checkpoints.known if known.name == "test-mine"]
    assert mine.made_here and not any(known.made_here for known in addon.checkpoints.known if known != mine)
    bpy.ops.fatezero.remove_checkpoint(name="test-mine")
    wait_until(lambda: not addon.checkpoints.current.running)
    assert not folder.exists() and mine not in addon.checkpoints.known
    addon.checkpoints.forget()


def test_it_is_shown_paused_resumed_and_cancelled_as_an_edit_is(addon, project, session, strip):
    job = begin(addon, "test-held", 3000)
    at_work(session, job)
    words = addon.panels.queue.progress_text(job, session)
    assert words.startswith(f"Tuning {job.step}/3000, error {job.loss:.3f}")
    tick_until(session, lambda: job.preview)
    assert job.preview.frames == [0, 1, 2] and job.preview.steps == 3000
    assert bpy.ops.fatezero.pause(job=job.id) == {"FINISHED"}
    tick_until(session, lambda: job.state == "paused")
    reached = job.step
    assert bpy.ops.fatezero.resume(job=job.id) == {"FINISHED"}
    at_work(session, job)
    assert job.step >= reached, "it goes on where it was"
    assert bpy.ops.fatezero.cancel(job=job.id) == {"FINISHED"}
    tick_until(session, lambda: job.final)
    assert job.state == "cancelled" and project.scene.fatezero.model == "FOLDER"
    assert not list((addon.folders.home_folder() / "tuned").glob("test-held-*"))


def test_it_goes_on_in_the_next_session_and_the_panel_takes_it_then(addon, project, session, strip):
    job = begin(addon, "test-later", 40)
    reach(session, "running")
    assert (job.record().tuning.name, job.record().take_model) == ("test-later", True)
    session.close()
    session.look()
    tick_until(session, lambda: session.jobs)
    found = session.job
    assert found is not job and (found.id, found.task, found.tuning) == (job.id, "tune", job.tuning)
    addon.jobs.wait(300)
    assert (found.state, found.model, found.trouble) == ("done", "test-later", None)
    assert project.scene.fatezero.model_name == "test-later"


def test_a_model_that_was_tuned_from_the_built_in_one_takes_its_presets(addon, project, session, tmp_path):
    models, settings, folders = addon.protocol.models, project.scene.fatezero, {}
    for name, profile in (("test-small", {"base": "builtin"}), ("test-other", {})):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        (folders[name] / models.PROFILE_FILE).write_text(json.dumps(profile))
        models.add(addon.folders.home_folder(), models.Model(str(folders[name])), name)
    project.prompts("a red ball", "a red cube", preset="shape", model="BUILTIN")
    small, changed = msgspec.to_builtins(settings.as_edit()), settings.changed_settings()

    def asked(**choice) -> dict:
        project.prompts("a red ball", "a red cube", **choice)
        return msgspec.to_builtins(settings.as_edit()) | {"model": "builtin"}

    other = asked(model="NAMED", model_name="test-other")
    assert other["cross_mode"] == "replace" and not other["blend_latents"] and other != small
    settings.guidance = 3.0
    assert asked(model_name="test-other")["guidance"] == 3.0, "what the user has set stays"
    assert asked(model_name="test-small") == small and settings.changed_settings() == changed
    settings.guidance = 3.0
    assert asked(model_name="test-small")["guidance"] == 3.0
    assert asked(model_name="test-other") == other
    assert asked(model="FOLDER", model_folder=str(folders["test-small"])) == small
    assert asked(model_folder=str(folders["test-other"])) == other


def test_the_built_in_model_is_tuned_in_its_own_few_steps(addon, project, session, strip, tmp_path, monkeypatch):
    project.prompts(model="BUILTIN")
    job = begin(addon, "test-little", steps=0)
    assert (job.tuning.steps, job.tuning.rate) == usual("builtin")
    addon.jobs.wait(300)
    assert (job.state, job.model, job.step) == ("done", "test-little", job.tuning.steps)
    settings = project.scene.fatezero
    assert (settings.model_name, settings.model_base, settings.preset) == ("test-little", "builtin", "shape")
    assert settings.keep_background and "guidance" not in settings.changed_settings()
    assert addon.tuned.base_of("NAMED", "", "test-little") == "builtin"
    monkeypatch.setattr(addon.chosen, "place", lambda: addon.places.Remote("far:1", "", tmp_path))
    assert addon.tuned.base_of("NAMED", "", "test-little") == "builtin", "the engine has said so"
    assert addon.tuned.base_of("NAMED", "", "test-else") == ""


def test_the_panel_stays_as_it_is_where_that_is_wanted(addon, project, session, strip):
    assert bpy.ops.fatezero.tune_on_strip(name="test-aside", steps=1, use=False) == {"FINISHED"}
    assert project.scene.fatezero.model == "FOLDER" and session.job.model == "test-aside"


def test_a_name_is_proposed_that_no_other_model_has(addon, session, monkeypatch):
    monkeypatch.setattr(addon.checkpoints, "names", lambda _home: ["builtin", "My-clip.001-tuned"])
    assert addon.tuned.proposed("My clip.001") == "My-clip.001-tuned-2"
    assert addon.tuned.proposed("…") == "strip-tuned"
    addon.tuned.check_name(addon.tuned.proposed("x" * 200))


def test_the_dialog_says_what_it_will_take(addon, project, session, strip):
    dialog = addon.operators.tune.FATEZERO_OT_tune_on_strip
    planned = addon.operators.tune._plan(bpy.context)
    amount = addon.estimates.amount_of(*planned, Tuning(name="x", steps=4))
    book = {"engine": [addon.estimates.Known(amount.frames, 4, amount.pixels, {"load": 5.0, "tune": 3 * 4 * 2.0}, 0)]}
    rows = {}
    for known in ({}, book):
        addon.estimates._cached = (-1.0, {})
        path = addon.folders.timings_file()
        before = path.read_bytes() if path.exists() else None
        try:
            told = {addon.estimates._key("", amount): entries for entries in known.values()}
            path.write_bytes(msgspec.json.encode(told))
            words: list[str] = []
            operator = SimpleNamespace(
                layout=Layout(words),
                bl_rna=bpy.ops.fatezero.tune_on_strip.get_rna_type(),
                name="x",
                steps=8,
                _planned=planned,
            )
            dialog.draw(operator, None)
            rows[bool(known)] = words
        finally:
            path.write_bytes(before) if before is not None else path.unlink()
            addon.estimates._cached = (-1.0, {})
    assert "a red ball" in rows[False] and "3 frames" in rows[False]
    assert "3 frames, about 53 s" in rows[True]


def test_the_command_line_tunes_too(addon, project, session, strip, capsys):
    assert addon.cli.run(["tune", "--strip", "clip", "--name", "test-told", "--steps", "2", "--json"]) == 0
    told = json.loads(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{")))
    assert told == {"strip": "clip", "state": "done", "model": "test-told", "error": "", "notes": []}
    assert addon.cli.run(["tune", "--strip", "nothing"]) == 4
    assert addon.cli.run(["tune", "--strip", "clip", "--name", "test-told"]) == 1
    assert "Another model is called 'test-told'" in capsys.readouterr().err


def test_without_a_prompt_it_says_what_is_missing(addon, project, session, strip):
    project.prompts(source=" ")
    with pytest.raises(RuntimeError, match="The source prompt is empty"):
        bpy.ops.fatezero.tune_on_strip(name="test-none", steps=1)
    assert session.jobs == []
