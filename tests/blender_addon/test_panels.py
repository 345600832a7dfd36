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
                kind = getattr(getattr(bpy.ops, module), operator).get_rna_type()
                self.shown.append(given.get("text") or kind.name)
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
            if not issubclass(panel, bpy.types.Panel):
                continue
            if not hasattr(panel, "poll") or panel.poll(context):
                shown.append(panel.bl_label)
                panel.draw(SimpleNamespace(layout=Layout(shown)), context)
                if hasattr(panel, "draw_header_preset"):
                    panel.draw_header_preset(SimpleNamespace(layout=Layout(shown)), context)
        kind = addon.preferences.FATEZERO_AP_preferences
        preferences = bpy.context.preferences.addons[kind.bl_idname].preferences
        values = {name: getattr(preferences, name) for name in kind.__annotations__}
        kind.draw(SimpleNamespace(layout=Layout(shown), bl_rna=kind.bl_rna, **values), context)
        return shown

    return draw


def test_at_first(drawn, project, no_engine, monkeypatch):
    shown = drawn()
    order = ["Edit by Words", "What is in the strip", "What shall be there instead", "Preset", "Edit Strip", "Settings"]
    sidebar = shown[: shown.index("Settings") + 1]  # further down the preferences may name keys' operators
    assert [text for text in sidebar if text in order] == order
    assert "Not running" in shown and "Start Engine" in shown
    monkeypatch.delenv("FATEZERO_ENGINE_PYTHON")
    assert "Not installed" in drawn() and "Install Engine" in drawn()


@pytest.mark.parametrize("preset", ["style", "attribute", "shape", "reconstruct"])
def test_presets_and_models(drawn, project, preset):
    project.prompts(preset=preset, model="FOLDER")
    assert "Folder" in drawn()


def test_what_differs_from_the_preset_is_seen_and_reset(drawn, project):
    settings = project.scene.fatezero
    project.prompts(preset="style")
    assert settings.changed_settings() == set() and "Reset to Preset" not in drawn()
    project.prompts(guidance=3.0, self_end=0.25, blend_source="ball", keep_background=True)
    assert settings.changed_settings() == {"guidance", "self_end", "blend_source", "keep_background"}
    shown = drawn()
    assert shown.count("Reset to Preset") == 4 and shown.count("Reset All to Preset") == 1
    assert bpy.ops.fatezero.reset_setting(setting="self_end") == {"FINISHED"}
    assert settings.changed_settings() == {"guidance", "blend_source", "keep_background"}
    settings.preset = "attribute"  # takes its own guidance, and keeps the background; words stay
    assert settings.changed_settings() == {"blend_source"}
    assert bpy.ops.fatezero.reset_to_preset() == {"FINISHED"}
    assert settings.changed_settings() == set() and not bpy.ops.fatezero.reset_to_preset.poll()


def test_anchors_are_set_where_the_other_settings_are(drawn, project):
    settings = project.scene.fatezero
    project.prompts("a red ball", "a blue ball")
    assert settings.as_edit().anchor_cuts and not settings.as_edit().anchor_every
    assert {"Shots Apart", "Anchor Every"} <= set(drawn())
    project.prompts(anchor_cuts=False, anchor_every=12)
    assert settings.changed_settings() == {"anchor_cuts", "anchor_every"}
    for asked in (settings.as_edit(), settings.as_reconstruction()):
        assert (asked.anchor_cuts, asked.anchor_every) == (False, 12)
    edit = settings.as_edit()
    bpy.ops.fatezero.reset_to_preset()
    settings.show(edit)
    assert (settings.anchor_cuts, settings.anchor_every) == (False, 12)


def test_what_is_kept_of_the_background_comes_back_with_an_edit(project):
    settings = project.scene.fatezero
    for preset, mode, keep in (
        ("attribute", "NONE", False),
        ("attribute", "NONE", True),
        ("style", "LIMIT", False),
        ("style", "LIMIT", True),
        ("shape", "SUBTRACT", False),
    ):
        project.prompts("a red ball", "a red cube", preset=preset, own_mask_mode=mode, keep_background=keep)
        if preset == "style":
            settings.blend_source = "ball"
        edit = settings.as_edit()
        assert edit.keep_background == keep
        project.prompts("a ball", "a ball", preset="reconstruct", own_mask_mode="NONE", blend_source="")
        settings.show(edit)
        assert settings.as_edit() == edit and settings.own_mask_mode == mode
        settings.blend_source = ""


def test_an_edit_with_a_remote_engines_tuned_model_keeps_its_presets(addon, project, monkeypatch, tmp_path):
    """In a later session nobody here knows any more what that model was made from, but the file does."""
    monkeypatch.setattr(addon.chosen, "place", lambda: addon.places.Remote("far:1", "", tmp_path))
    settings = project.scene.fatezero
    project.prompts("a red ball", "a red cube", model="NAMED", model_name="test-far")
    settings.model_base, settings.preset = "builtin", "shape"
    edit = settings.as_edit()
    assert edit.blend_latents and edit.blend_reach < 1 and edit.guidance_fall
    settings.show(edit)
    assert settings.as_edit() == edit


def test_the_engine_knows_better_how_words_are_read(drawn, addon, project):
    compare, Word = addon.words.compare, addon.words.Word
    kind = addon.operators.prompts.FATEZERO_OT_blend_word
    Seen = addon.protocol.messages.WordSeen
    seen = [
        Seen(word="a", tokens=1),
        Seen(word="zorb", tokens=2, in_pieces=True),
        Seen(word="ball", tokens=0, cut=True),
    ]
    source, target = compare("a zorb ball", "a blue ball", seen)
    assert source == [Word("a", "kept"), Word("zorb", "goes", True), Word("ball", "cut")]
    assert target == compare("a zorb ball", "a blue ball")[1]
    assert compare("a red ball", "a blue ball", seen) == compare("a red ball", "a blue ball")
    assert "several pieces" in kind.description(None, SimpleNamespace(state="goes", in_pieces=True))
    assert "several pieces" not in kind.description(None, SimpleNamespace(state="goes", in_pieces=False))


def test_every_word_is_a_chip(drawn, addon, project):
    project.prompts("a red ball", "a blue ball")
    compare, Word = addon.words.compare, addon.words.Word
    source, target = compare("a red ball", "a blue ball")
    assert source == [Word("a", "kept"), Word("red", "goes"), Word("ball", "kept")]
    assert target == [Word("a", "kept"), Word("blue", "new"), Word("ball", "kept")]
    shown = drawn()
    assert shown.count("ball") == 2 and {"red", "blue"} <= set(shown)
    kind = addon.operators.prompts.FATEZERO_OT_blend_word
    assert kind.description(None, SimpleNamespace(state="new", in_pieces=False)).startswith(
        "The source prompt has no such word"
    )
    settings = project.scene.fatezero
    bpy.ops.fatezero.blend_word(word="red", role="source")
    bpy.ops.fatezero.blend_word(word="ball", role="source")
    assert settings.blend_source == "red ball"
    bpy.ops.fatezero.blend_word(word="red", role="source")
    assert settings.blend_source == "ball"
    project.prompts(" ".join(["word"] * 80), "")
    assert [word.state for word in compare(settings.source, "word")[0]] == ["kept"] * 75 + ["cut"] * 5
    assert "+ 32" in drawn()


def test_trouble_is_shown_whole(drawn, addon, project):
    folder = "/a/folder/with/a/very/long/name" * 6
    addon.jobs.session.trouble = addon.trouble.Trouble("{folder} is full.", "Make room.", folder=folder)
    assert folder in "".join(drawn()) and "Make room." in " ".join(drawn())
    blf.size(0, 11)
    lines = addon.panels.text.lines_of(f"The disk with {folder} is full.", 150)
    assert len(lines) > 6 and max(blf.dimensions(0, line)[0] for line in lines) <= 150
    assert lines[0] == "The disk with" and folder in "".join(lines)


def test_while_it_works_and_afterwards(drawn, addon, project, engine):
    project.select(project.image_strip(count=2))
    project.prompts(steps=2)
    session, seen = addon.jobs.session, set()
    addon.operators.edit.begin(bpy.context)
    while session.busy:
        shown = drawn()
        assert "Cancel Edit" in shown and "Edit Strip" in shown and "clip" in shown
        seen.add(session.job.state)
        session.tick()
        time.sleep(0.05)
    assert {"exporting", "running"} <= seen
    assert session.job.state == "done", session.trouble
    shown = drawn()
    assert (
        "Select Result" in shown and "Dismiss" in shown and "Stop Engine" in shown and "Made by FateZero" not in shown
    )
    bpy.ops.fatezero.select_result()
    shown = drawn()
    assert "Made by FateZero" in shown and "a blue ball" in " ".join(shown)
    assert "Quality" in shown and "Render in Full" not in shown and "(Draft)" not in " ".join(shown)
    origin = project.editor.active_strip[addon.reimport.TAG]
    origin["settings"] = origin["settings"].replace('"full_steps":0', '"full_steps":4')
    shown = drawn()
    assert "Render in Full" in shown and "Version 1 of 1 (Draft)" in shown


def test_a_job_in_every_state(drawn, addon, project, no_engine):
    """What each state offers, drawn without an engine: nothing here has to be carried on."""
    session, Trouble = addon.jobs.session, addon.trouble.Trouble
    project.prompts()
    source = addon.strips.describe(project.scene, project.image_strip("a clip"))
    job = addon.job.Job.begin(source, project.scene.fatezero.as_edit(), "")
    session.jobs.append(job)
    always = {"Edit Strip", "a clip"}
    try:
        for state, at_engine, more in (
            ("exporting", False, {"Goes on when the engine is started", "Cancel Edit"}),
            ("sending", False, {"Goes on when the engine is started", "Cancel Edit"}),
            ("queued", True, {"Pause Edit", "Cancel Edit"}),
            ("running", True, {"Pause Edit", "Cancel Edit"}),
            ("paused", True, {"Resume Edit", "Cancel Edit"}),
            ("unfetched", True, {"Try Again", "Fetch Again", "Dismiss", "the disk is full"}),
            ("unplaced", True, {"Place Here", "Dismiss", "the disk is full"}),
            ("failed", True, {"Try Again", "Dismiss", "the disk is full"}),
            ("failed", False, {"Dismiss", "the disk is full"}),
            ("done", True, {"Dismiss"}),
        ):
            job.state, job.at_engine = state, at_engine
            job.trouble = Trouble("the disk is full") if "the disk is full" in more else None
            shown = set(drawn())
            assert always | more <= shown, (state, shown)
            assert ("Try Again" in shown) == (state in ("failed", "unfetched") and at_engine)
            assert not ({"Pause Edit", "Resume Edit"} & shown) - more
        job.state, job.ahead = "queued", 3
        session.engine = "ready"
        assert addon.panels.queue.progress_text(job, session) == "Waiting, 3 before it"
        job.state = "exporting"
        assert addon.panels.queue.progress_text(job, session) == "Exporting 0/6"
        job.state = "queued"
        session.engine = "lost"
        assert addon.panels.queue.progress_text(job, session) == "Connection lost, trying again"
        job.state, job.steps = "placing", 0
        assert addon.panels.queue.progress_text(job, session) == "Placing"
    finally:
        session.engine = "off"
        job.end("cancelled")
        job.at_engine = False


def test_a_remote_engine(drawn, addon, project, no_engine):
    preferences = bpy.context.preferences.addons[addon.preferences.__package__].preferences
    preferences.engine = "REMOTE"
    try:
        shown = drawn()
        assert "Not connected" in shown and "Connect" in shown
        assert {"Address", "Engine's Key", "This Computer's Key", "Copy Key", "Test Connection"} <= set(shown)
        assert addon.chosen.own_key() in shown
        preferences.remote_address = " gpu.example:5555"
        assert addon.chosen.name() == addon.chosen.place().name == "gpu.example:5555"
    finally:
        preferences.engine, preferences.remote_address = "LOCAL", ""
    assert addon.chosen.name() == addon.chosen.place().name
    assert {"Engine's Python", "When Blender Closes"} <= set(drawn())
