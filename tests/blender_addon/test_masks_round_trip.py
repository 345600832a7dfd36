"""Masks from a real engine: found without an edit, listed, brought in; and the user's own mask in an edit."""

from __future__ import annotations

import shutil

import bpy
import pytest

from tests.blender_addon.conftest import FRAMES


@pytest.fixture
def strip(addon, project, engine):
    shutil.rmtree(addon.folders.masks_folder())  # other tests edit a strip like this one
    strip = project.image_strip()
    project.select(strip)
    project.scene.frame_current = 12
    yield strip
    shutil.rmtree(addon.folders.masks_folder())
    addon.preview.settings.view().words.clear()
    addon.preview.layers.forget()


def test_masks_are_shown_and_become_a_strip(addon, project, strip):
    project.prompts()
    assert bpy.ops.fatezero.show_masks() == {"FINISHED"}
    assert len(project.strips) == 1
    view = addon.preview.settings.view()
    addon.preview.layers.sync(project.scene)
    assert [(word.name, word.kind) for word in view.words] == [("a", "word"), ("red", "word"), ("ball", "word")]
    view.words["ball"].shown = True
    (layer,) = addon.preview.layers.shown(project.scene)
    assert addon.png.read(layer.path).channels == 1
    word = view.words["ball"]
    assert bpy.ops.fatezero.add_mask_strip(mask_set=word.mask_set, number=word.number) == {"FINISHED"}
    assert len(project.strips["clip ball Mask"].elements) == FRAMES


def test_an_edit_with_an_own_mask(addon, project, strip):
    project.image_strip("mask", channel=3, seed=4).mute = True
    project.prompts(preset="shape", own_mask_mode="LIMIT", own_mask_kind="STRIP", own_mask_strip="mask")
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    assert "clip FateZero" in project.strips
