"""What the add-on puts into Blender's menus, keys and status bar, and what it says when a job is over."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

from tests.blender_addon.conftest import reach
from tests.blender_addon.test_panels import Layout


@pytest.fixture
def shown(addon, project):
    """What one of the additions draws."""

    def draw(function) -> list[str]:
        words: list[str] = []
        function(SimpleNamespace(layout=Layout(words)), SimpleNamespace(scene=project.scene))
        return words

    return draw


def test_a_strip_can_be_edited_from_its_menu(addon, project, shown):
    assert shown(addon.menus._in_strip_menu) == []
    project.select(project.image_strip())
    assert shown(addon.menus._in_strip_menu) == [
        "Edit by Words",
        "Test Reconstruction",
        "Show Masks",
        "Tune on This Strip…",
        "Batch",
    ]
    bpy.context.scene.sequence_editor.active_strip[addon.reimport.TAG] = "{}"
    of_result = [
        "Edit by Words",
        "Edit Again",
        "Re-render",
        "Toggle Before and After",
        "Show Masks",
        "Tune on This Strip…",
        "Batch",
    ]
    assert shown(addon.menus._in_strip_menu) == of_result
    for menu, draw in addon.menus._ADDITIONS:
        assert draw in getattr(bpy.types, menu)._dyn_ui_initialize()


def test_keys_lead_to_operators_of_ours(addon, project):
    added = bpy.context.window_manager.keyconfigs.addon
    assert len(addon.keymaps._registered) == len(addon.keymaps.KEYS) > 0
    for key, keymap, item in addon.keymaps._registered:
        assert keymap == added.keymaps[key.keymap] and item.idname == key.operator
        assert getattr(bpy.ops.fatezero, key.operator.partition(".")[2]).get_rna_type().name
        assert [name for name in ("shift", "ctrl", "alt") if getattr(item, name)] == [
            name for name in ("shift", "ctrl", "alt") if name in key.modifiers
        ]
    addon.keymaps.unregister()
    assert not any("fatezero" in item.idname for keymap in added.keymaps for item in keymap.keymap_items)
    addon.keymaps.register()


def test_the_status_bar_and_the_last_word(addon, project, engine, shown):
    project.select(project.image_strip(count=2))
    project.prompts(steps=2)
    session, notices = addon.jobs.session, addon.notices
    assert shown(addon.menus._in_status_bar) == []
    job = addon.operators.edit.begin(bpy.context)
    notices.look()
    assert shown(addon.menus._in_status_bar) == ["clip: Exporting 0/2", "Cancel Edit"]
    assert notices.sentence(job) == ""
    reach(session, "done")
    assert shown(addon.menus._in_status_bar) == []
    assert notices.sentence(job) == "'clip' is edited"
    job.trouble = addon.trouble.Trouble("No channel is free.", "Make room.")
    assert notices.sentence(job) == "'clip': No channel is free."
    job.trouble = None
    assert bpy.ops.fatezero.notify(text="'clip' is edited") == {"FINISHED"}
    assert notices.look in addon.jobs.listeners


def test_a_reconstruction_is_a_job_of_its_own(addon, project, engine):
    project.select(project.image_strip(count=2))
    project.prompts("a red ball", "a blue ball", steps=2, preset="shape")
    assert bpy.ops.fatezero.test_reconstruction() == {"FINISHED"}
    job = addon.jobs.session.job
    assert (job.settings.preset, job.settings.target, job.settings.steps) == ("reconstruct", "a red ball", 2)
    reach(addon.jobs.session, "done")
    assert project.scene.fatezero.preset == "shape"
