"""Panels in every state, drawn onto a layout that knows what this Blender's layouts take.

Blender draws nothing without a window; that the panels look right is checked by eye in one.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import blf
import bpy
import pytest

FUNCTIONS = bpy.types.UILayout.bl_rna.functions
PROPERTIES = bpy.types.UILayout.bl_rna.properties


class Layout:
    """Checks each call against Blender's own description of `UILayout`, and keeps the words that would be shown."""

    def __init__(self, shown: list[str]):
        object.__setattr__(self, "shown", shown)

    def __setattr__(self, name: str, value) -> None:
        assert name in PROPERTIES, name

    def __getattr__(self, name: str):
        taken = FUNCTIONS[name].parameters

        def call(*arguments, **keywords):
            order = [part.identifier for part in taken if not part.is_output]
            given = dict(zip(order, arguments)) | keywords
            assert set(given) <= set(order), (name, set(given) - set(order))
            if icon := given.get("icon"):
                assert icon in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
            if name in ("prop", "prop_search"):
                assert given["property"] in given["data"].bl_rna.properties
                self.shown.append(given.get("text", given["data"].bl_rna.properties[given["property"]].name))
            elif name == "operator":
                module, _, operator = given["operator"].partition(".")
                self.shown.append(getattr(getattr(bpy.ops, module), operator).get_rna_type().name)
                return SimpleNamespace()
            elif "text" in given:
                self.shown.append(given["text"])
            return Layout(self.shown)

        return call


@pytest.fixture
def drawn(addon, project):
    """All that the sidebar and the preferences show."""

    def draw() -> list[str]:
        context = SimpleNamespace(scene=project.scene, region=SimpleNamespace(width=300))
        shown: list[str] = []
        for panel in addon.panels.CLASSES:
            if not hasattr(panel, "poll") or panel.poll(context):
                shown.append(panel.bl_label)
                panel.draw(SimpleNamespace(layout=Layout(shown)), context)
        addon.preferences.FATEZERO_AP_preferences.draw(
            SimpleNamespace(layout=Layout(shown), bl_rna=addon.preferences.FATEZERO_AP_preferences.bl_rna), context
        )
        return shown

    return draw


def test_at_first(drawn, project, no_engine, monkeypatch):
    shown = drawn()
    order = ["Edit by Words", "What is in the strip", "What shall be there instead", "Preset", "Edit Strip", "Settings"]
    assert [text for text in shown if text in order] == order
    assert "Not running" in shown and "Start Engine" in shown
    monkeypatch.delenv("FATEZERO_ENGINE_PYTHON")
    assert "Not installed" in drawn() and "Install Engine" in drawn()


@pytest.mark.parametrize("preset", ["style", "attribute", "shape", "reconstruct"])
def test_presets_and_models(drawn, project, preset):
    project.prompts(preset=preset, model="FOLDER")
    assert "Folder" in drawn()


def test_trouble_is_shown_whole(drawn, addon, project):
    folder = "/a/folder/with/a/very/long/name" * 6
    addon.jobs.session.trouble = addon.trouble.Trouble("{folder} is full.", "Make room.", folder=folder)
    assert folder in "".join(drawn()) and "Make room." in " ".join(drawn())
    blf.size(0, 11)
    lines = addon.panels.lines_of(f"The disk with {folder} is full.", 150)
    assert len(lines) > 6 and max(blf.dimensions(0, line)[0] for line in lines) <= 150
    assert lines[0] == "The disk with" and folder in "".join(lines)


def test_while_it_works_and_afterwards(drawn, addon, project, engine):
    project.select(project.image_strip(count=2))
    project.prompts(steps=2)
    session, seen = addon.jobs.session, set()
    addon.operators.begin(bpy.context)
    while session.busy:
        shown = drawn()
        assert "Cancel Edit" in shown and "Edit Strip" not in shown
        seen.add(session.job.state)
        session.tick()
        time.sleep(0.05)
    assert {"exporting", "running"} <= seen
    assert session.job.state == "done", session.trouble
    shown = drawn()
    assert "Select Result" in shown and "Stop Engine" in shown and "Made by FateZero" not in shown
    bpy.ops.fatezero.select_result()
    shown = drawn()
    assert "Made by FateZero" in shown and "a blue ball" in " ".join(shown)
