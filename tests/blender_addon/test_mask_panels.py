"""The panels of masks, of the user's own mask and of comparisons, and what they add to Blender's own."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import bpy
import pytest

from tests.blender_addon.masks import write_set
from tests.blender_addon.test_panels import Layout, drawn  # noqa: F401 (a fixture)


def test_masks_of_a_strip(addon, project, drawn):  # noqa: F811
    explained = "Show Masks finds where the model sees each word of the source prompt."
    assert "Show Masks" in drawn() and explained.split()[-1] in " ".join(drawn())
    strip = project.image_strip()
    write_set(addon, addon.strips.describe(project.scene, strip), kinds=["word", "word", "blend"])
    project.select(strip)
    try:
        addon.preview.layers.sync(project.scene)
        shown = drawn()
        order = ["Show over the Preview", "a", "Add Mask Strip", "red", "Mask of the Edit", "ball", "Style", "Opacity"]
        found = [shown.index(text) for text in order if text in ("a", "red", "ball", "Mask of the Edit", "Opacity")]
        assert found == sorted(found) and explained not in shown
    finally:
        shutil.rmtree(addon.folders.masks_folder())
        addon.preview.settings.view().words.clear()
        addon.preview.layers.forget()


def test_own_mask(project, drawn):  # noqa: F811
    own = project.scene.fatezero
    assert "Own Mask" in drawn() and "Invert" not in drawn()
    own.own_mask_mode = "LIMIT"
    assert {"Kind", "Mask", "Invert"} <= set(drawn())
    own.own_mask_kind = "STRIP"
    assert {"Kind", "Strip", "Invert"} <= set(drawn())


@pytest.mark.parametrize("preset", ["attribute", "style"])
def test_an_own_mask_keeps_the_background_and_the_panel_says_so(project, preset):
    own = project.scene.fatezero
    project.prompts("a ball", "a white ball", preset=preset)
    at_first = own.keep_background
    assert not own.as_edit().keep_background  # no word says where
    for mode in ("LIMIT", "SUBTRACT", "REPLACE", "ADD"):
        own.own_mask_mode = mode
        assert own.keep_background and own.as_edit().keep_background and own.as_edit().own_mask == mode.lower()
        assert not own.changed_settings()
    own.keep_background = False
    assert not own.as_edit().keep_background if preset == "style" else not own.as_edit(own_mask="").keep_background
    own.own_mask_mode = "NONE"
    assert own.keep_background == at_first and not own.changed_settings()


@pytest.mark.parametrize("mode", ["NONE", "ADD"])
def test_keep_background_is_greyed_out_only_where_it_would_do_nothing(addon, project, mode):
    project.prompts("a ball", "a white ball", own_mask_mode=mode)
    active = {}

    class Column:
        active = True

        def __getattr__(self, name):
            def call(*arguments, **_):
                if name == "prop":
                    active[arguments[1]] = self.active
                return Column() if name in ("column", "row") and self is layout else self

            return call

    layout = Column()
    context = SimpleNamespace(scene=project.scene, region=SimpleNamespace(width=300))
    addon.panels.edit.FATEZERO_PT_settings.draw(SimpleNamespace(layout=layout), context)
    assert active["keep_background"] == (mode != "NONE") and active["steady"]


def test_the_previews_overlays_have_ours_too(addon):
    view, shown = addon.preview.settings.view(), []
    view.compare = "WIPE"
    try:
        addon.panels.masks.draw_overlay(SimpleNamespace(layout=Layout(shown)), bpy.context)
    finally:
        view.compare = "OFF"
    assert shown == ["FateZero", "Masks", "Compare", "Divider", "Live Preview"]
    hooked = bpy.types.SEQUENCER_PT_preview_overlay.draw._draw_funcs
    assert addon.panels.masks.draw_overlay in hooked
