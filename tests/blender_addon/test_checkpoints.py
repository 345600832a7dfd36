"""Checkpoints from the preferences, by the real engine's own command."""

from __future__ import annotations

import shutil

import bpy
import pytest

from tests.blender_addon.conftest import ROOT, wait_until


@pytest.fixture
def done(addon, project, no_engine):
    """Wait for the command that was begun; the engine's list is as it was afterwards."""

    def wait():
        task = addon.checkpoints.current
        wait_until(lambda: not task.running)
        return task

    def remove_all() -> None:
        for name in addon.protocol.models.known(addon.folders.home_folder())[1:]:
            addon.protocol.models.remove(addon.folders.home_folder(), name)

    if addon.checkpoints.current:  # drawn preferences have asked for the list
        wait()
        addon.checkpoints.forget()
    remove_all()  # what other tests have left
    yield wait
    remove_all()
    addon.checkpoints.forget()


@pytest.fixture
def online():
    bpy.context.preferences.system.use_online_access = True
    yield
    bpy.context.preferences.system.use_online_access = False


def test_one_is_added_offered_used_and_removed(addon, project, done, tmp_path):
    folder = shutil.copytree(ROOT / "tests" / "data" / "checkpoint", tmp_path / "my checkpoint")
    (folder / "README.md").write_text("---\nlicense: openrail\n---\n# Mine\n")
    assert bpy.ops.fatezero.add_checkpoint(filepath=str(folder)) == {"FINISHED"}
    assert not bpy.ops.fatezero.list_checkpoints.poll()  # one command at a time
    assert done().trouble is None
    builtin, mine = addon.checkpoints.known
    assert (builtin.name, builtin.removable, builtin.licence) == ("builtin", False, "gpl-3.0")
    assert mine.name.startswith("my-checkpoint-") and mine.licence == "openrail"
    assert mine.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    project.prompts(model="NAMED", model_name=mine.name)
    assert addon.model_choice.names()[-1] == mine.name
    assert project.scene.fatezero.as_edit().model == mine.name

    assert bpy.ops.fatezero.remove_checkpoint(name=mine.name) == {"FINISHED"}
    assert done().trouble is None and addon.checkpoints.known == [builtin]
    assert folder.is_dir()
    with pytest.raises(addon.trouble.Trouble, match=f"The engine has no model '{mine.name}'"):
        project.scene.fatezero.as_edit()


def test_what_cannot_work_is_refused_in_the_engines_words(addon, done, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    bpy.ops.fatezero.add_checkpoint(filepath=str(tmp_path / "broken.safetensors"))
    assert str(done().trouble).startswith("broken.safetensors is damaged or cut short")
    assert addon.checkpoints.known is None


def test_nothing_is_fetched_without_online_access(addon, done):
    addon.chosen.preferences().hub_repository = "someone/small"
    assert not bpy.ops.fatezero.look_up_checkpoint.poll() and not bpy.ops.fatezero.fetch_checkpoint.poll()


def test_a_hub_that_cannot_be_reached(addon, done, online, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    addon.chosen.preferences().hub_repository = "someone/small"
    assert not bpy.ops.fatezero.fetch_checkpoint.poll()  # nothing was looked up
    assert bpy.ops.fatezero.look_up_checkpoint() == {"FINISHED"}
    words = str(done().trouble)
    assert words.startswith("The hub could not be reached for 'someone/small'")
    assert addon.checkpoints.offered is None


def test_a_command_is_cancelled_at_once(addon, done, tmp_path):
    folder = shutil.copytree(ROOT / "tests" / "data" / "checkpoint", tmp_path / "checkpoint")
    bpy.ops.fatezero.add_checkpoint(filepath=str(folder))
    assert bpy.ops.fatezero.cancel_checkpoint() == {"FINISHED"}
    task = done()
    assert task.cancelled and task.trouble is None
    assert len(addon.checkpoints.names(addon.folders.home_folder())) == 1
