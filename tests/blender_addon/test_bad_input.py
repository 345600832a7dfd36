"""What cannot be edited is refused before anything happens, in one sentence that says the way out."""

from __future__ import annotations

import bpy
import pytest

from tests.blender_addon.conftest import new_file, refused


@pytest.fixture(autouse=True)
def nothing_happened(addon, project):
    """Prompts are there, and in the end no job, no engine that was not there, no file."""
    project.prompts()
    engine = addon.jobs.session.engine
    yield
    assert addon.jobs.session.job is None
    assert addon.jobs.session.engine in (engine, "off")
    assert addon.jobs.session.trouble is not None  # the panel says it, too
    assert not (project.folder / "fatezero").exists()


def test_nothing_selected(project):
    project.image_strip()
    project.select(None)
    assert refused() == "No strip is selected. Select the strip to edit."


def test_two_selected_none_active(project):
    for channel, name in ((1, "a"), (2, "b")):
        project.image_strip(name, channel=channel)
    project.select(None)
    for strip in project.strips:
        strip.select = True
    assert refused() == "No strip is selected. Select the strip to edit."


def test_no_such_strip(project):
    assert refused(strip="gone") == "There is no strip 'gone'. Select the strip to edit."
    assert refused(scene="gone") == "There is no scene 'gone'. Name one of this file's scenes."


def test_a_scene_of_another_file(project, tmp_path):
    project.image_strip("theirs")
    ours = project.scene
    ours.name = "theirs"
    bpy.data.libraries.write(str(tmp_path / "theirs.blend"), {ours})
    ours.name = "Scene"
    with bpy.data.libraries.load(str(tmp_path / "theirs.blend"), link=True) as (_, here):
        here.scenes = ["theirs"]
    assert refused(scene="theirs", strip="theirs").endswith("Open theirs.blend and edit it there.")


def test_sound(project, tmp_path):
    path = tmp_path / "beep.wav"
    path.write_bytes(b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\2\0\0\0\x80\x80")
    try:
        project.select(project.strips.new_sound(name="beep", filepath=str(path), channel=1, frame_start=1))
    except RuntimeError as error:  # the `bpy` package of 4.2: it has no sound strips that one could select
        assert "without Audaspace" in str(error)
        assert "No strip is selected" in refused()
    else:
        assert refused() == (
            "'beep' is a sound strip, which has no picture. Select a movie, image or scene strip instead."
        )


@pytest.mark.parametrize("kind", ["TEXT", "ADJUSTMENT", "MULTICAM"])
def test_strips_without_a_picture_of_their_own(project, kind):
    project.select(project.effect(kind, "words", 1, 1, 20))
    assert refused().startswith("'words' is a")
    assert refused().endswith("Select a movie, image or scene strip instead.")


def test_an_empty_meta(project):
    project.select(project.strips.new_meta(name="meta", channel=1, frame_start=1))
    assert refused() == "'meta' is empty. Select a movie, image or scene strip instead."


def test_a_scene_strip_without_its_scene(project):
    scene = bpy.data.scenes.new("other")
    project.select(project.strips.new_scene(name="scene", scene=scene, channel=1, frame_start=1))
    bpy.data.scenes.remove(scene)
    assert "'scene' is empty." in refused()


def test_a_missing_file(project):
    strip = project.image_strip()
    project.select(strip)
    path = project.folder / "media" / "clip" / "003.png"
    path.unlink()
    assert refused() == (
        f"The file {path} of 'clip' is missing. "
        "Put it back, or point the strip to where it is now (Strip, Inputs, Change Path/Files)."
    )


def test_a_missing_movie(project):
    project.select(project.strips.new_movie(name="film", filepath="//gone.mp4", channel=3, frame_start=1))
    assert f"The file {project.folder / 'gone.mp4'} of 'film' is missing." in refused()


def test_a_movie_that_is_none(project):
    path = project.folder / "junk.mp4"
    path.write_bytes(b"junk" * 1000)
    project.select(project.strips.new_movie(name="film", filepath=str(path), channel=3, frame_start=1))
    assert refused() == (
        f"Blender cannot read the file {path} of 'film'. "
        "Use another file, or Strip, Inputs, Reload Strips if it has been mended."
    )


def test_before_frame_0(project):
    project.select(project.image_strip(start=-3))
    assert refused() == (
        "'clip' reaches from frame -3 to 2, and Blender renders no such frames. Move it to frame 0 or later."
    )


def test_too_long(project):
    project.select(project.effect("COLOR", "long", 1, 1, 4000))
    assert "The strip has 3999 frames; the engine takes at most 2000 at a time." in refused()


def test_too_large(project):
    project.scene.render.resolution_x = 9000
    strip = project.image_strip()
    strip.transform.scale_x = 200.0  # what is small is worked on by itself
    project.select(strip)
    assert "The project is 9000 x 48 pixels; the engine takes at most 8192 on a side." in refused()


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("prompt", ["", "   "])
def test_empty_prompts(project, role, prompt):
    project.select(project.image_strip())
    project.prompts(**{role: prompt})
    assert refused().startswith(f"The {role} prompt is empty; say in a few words what")


def test_a_blend_word_that_is_not_in_the_prompt(project):
    project.select(project.image_strip())
    project.prompts(preset="shape", blend_source="cube")
    assert "'cube' (blend_source) is not a word of the source prompt 'a red ball'" in refused()


def test_no_model_folder(project):
    project.select(project.image_strip())
    project.prompts(model="FOLDER", model_folder="")
    assert refused() == "No model folder is chosen. Choose a checkpoint's folder, or the built-in model."


def test_an_unsaved_project(project):
    project.image_strip()
    frames = sorted((project.folder / "media" / "clip").iterdir())
    new_file()
    project.scene.sequence_editor_create()
    project.select(project.add_images(frames))
    project.prompts()
    assert refused() == "This project has not been saved yet. Save it first: the result is kept beside it."


def test_no_engine_installed(addon, project, no_engine, monkeypatch):
    monkeypatch.delenv("FATEZERO_ENGINE_PYTHON")
    project.select(project.image_strip())
    assert refused() == (
        "The engine is not installed. "
        "Press Install Engine in the FateZero sidebar, or name the engine's Python in the add-on's preferences."
    )


def test_settings_stay_in_range(addon, project):
    """Blender clamps what the user types; what is left is what the engine takes."""
    settings = project.scene.fatezero
    project.select(project.image_strip())
    for end in (-1e9, 1e9):
        for name in ("steps", "guidance", "cross_end", "self_end", "new_word_strength", "blend_threshold"):
            setattr(settings, name, int(end) if name == "steps" else end)
        settings.as_edit()
    project.prompts(target="")
    assert refused()
