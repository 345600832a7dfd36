"""Strip to strip, through the real engine process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import (
    FRAMES,
    HEIGHT,
    WIDTH,
    in_a_window,
    move,
    new_file,
    random_frames,
    reach,
    read_image,
)

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def start(addon, project):
    """Begin an edit of a new strip, as the button does, without waiting for it (which Blender does without a window)."""

    def begin(strip=None, **settings):
        strip = strip or project.image_strip(count=2)
        project.select(strip)
        project.prompts(**settings)
        project.save()
        addon.operators.edit.begin(bpy.context)
        assert addon.jobs.session.busy
        return strip

    return begin


def result_of(project, session):
    return project.all_strips[session.job.result]


def frames_of(strip) -> list[np.ndarray]:
    folder = Path(bpy.path.abspath(strip.directory))
    return [read_image(folder / element.filename) for element in strip.elements]


def test_a_strip_goes_out_and_a_strip_comes_back(addon, project, session):
    strip = project.image_strip(alpha=True, channel=2)
    project.image_strip("above", channel=3, start=12)
    project.select(strip)
    project.save()
    files = {path: path.read_bytes() for path in (project.folder / "media").rglob("*.png")}
    before = project.snapshot()

    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}

    job, result = session.job, result_of(project, session)
    assert (job.state, job.trouble, session.trouble) == ("done", None, None)
    assert (result.type, result.channel, strip.channel) == ("IMAGE", 4, 2)
    for handle in (addon.compat.left_handle, addon.compat.right_handle):
        assert handle(result) == handle(strip)
    transform = result.transform
    assert (transform.scale_x, transform.scale_y, transform.rotation) == (1.0, 1.0, 0.0)
    assert (transform.offset_x, transform.offset_y) == (0.0, 0.0)
    assert (result.blend_type, result.alpha_mode, result.mute) == ("ALPHA_OVER", "STRAIGHT", False)
    assert result.directory.startswith("//")

    edited, source = frames_of(result), random_frames(FRAMES, (WIDTH, HEIGHT), True, 1)
    assert [frame.shape for frame in edited] == [(HEIGHT, WIDTH, 4)] * FRAMES
    for after, original in zip(edited, source):
        assert np.array_equal(after[..., 3], original[..., 3])  # the source's alpha
    assert any(not np.array_equal(after, original) for after, original in zip(edited, source))
    assert {path: path.read_bytes() for path in files} == files
    folder = job.folder.name
    assert project.result_files() == [folder, f"{folder}/frames"] + [
        f"{folder}/frames/{number:05}.png" for number in range(1, FRAMES + 1)
    ]

    project.strips.remove(result)
    assert project.snapshot() == before


def test_what_made_it_survives_saving_and_copying(addon, project, session, start):
    start(preset="style", steps=2)
    addon.jobs.wait(300)
    name, job = session.job.result, session.job
    project.save()
    new_file()
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    result = project.all_strips[name]
    origin = addon.reimport.origin_of(result)
    assert (origin.source, origin.target, origin.strip) == ("a red ball", "a blue ball", "clip")
    assert (origin.job_id, origin.protocol, origin.model) == (job.id, 1, job.settings.model)
    assert origin.engine and len(origin.source_digest) == 64
    assert result["fatezero"]["seed"] == "none"
    settings = addon.reimport.settings_of(origin)
    assert (settings["preset"], settings["steps"]) == ("style", 2)
    assert settings == json.loads(origin.settings)
    right = result.split(frame=11, split_method="SOFT")
    assert addon.reimport.origin_of(right) == origin
    assert len(frames_of(result)) == 2


def test_the_button_does_not_block(addon, project, session, start):
    start()
    assert session.job.state == "exporting"
    assert bpy.app.timers.is_registered(addon.jobs.tick)
    addon.jobs.wait(300)
    assert session.job.state == "done"
    assert addon.jobs.tick() == addon.jobs.IDLE


def test_undo_and_redo(addon, project, session, start):
    strip = project.image_strip(count=1)
    with in_a_window(addon):
        bpy.ops.ed.undo_push(message="before")
    start(strip)
    reach(session, "done")
    name = session.job.result
    with in_a_window(addon):
        bpy.ops.ed.undo()
        assert list(project.strips.keys()) == ["clip"]
        bpy.ops.ed.redo()
        assert sorted(project.strips.keys()) == ["clip", name]
    assert len(frames_of(project.all_strips[name])) == 1


def test_selection_is_left_to_the_user(project, session, start):
    strip = start()
    session_job_done(session)
    assert project.editor.active_strip == strip and strip.select
    assert not result_of(project, session).select
    assert bpy.ops.fatezero.select_result() == {"FINISHED"}
    assert project.editor.active_strip == result_of(project, session)
    assert not strip.select


def session_job_done(session) -> None:
    reach(session, "done")


def test_in_a_meta_the_result_comes_over_its_source(addon, project, session, start):
    strip = project.image_strip("within", count=2, start=20)
    meta = project.strips.new_meta(name="meta", channel=3, frame_start=20)
    strip.move_to_meta(meta)
    start(strip)
    session_job_done(session)
    result = result_of(project, session)
    assert result.parent_meta() == meta
    assert (addon.compat.left_handle(result), result.channel) == (20, strip.channel + 1)


def test_a_moved_strip_is_found(addon, project, session, start):
    strip = start()
    reach(session, "running", "fetching")
    strip.channel = 5
    addon.compat.set_handles(strip, 10, 12)
    move(strip, 90)
    session_job_done(session)
    result = result_of(project, session)
    assert (addon.compat.left_handle(result), addon.compat.right_handle(result), result.channel) == (100, 102, 6)


def test_a_renamed_strip_is_found(project, session, start):
    strip = start()
    reach(session, "running", "fetching")
    strip.name = "another name"
    session_job_done(session)
    assert result_of(project, session).channel == strip.channel + 1


def test_a_renamed_scene_is_found_and_a_new_size_scales_nothing(project, session, start):
    start()
    reach(session, "running", "fetching")
    scene, size = project.scene, project.scene.render.resolution_x
    name, scene.name = scene.name, "another scene"
    scene.render.resolution_x, scene.render.resolution_y = 2 * size, 2 * scene.render.resolution_y
    session_job_done(session)
    scene.name = name
    result = result_of(project, session)
    assert session.job.trouble is None and (result.transform.scale_x, result.transform.scale_y) == (1.0, 1.0)
    assert result.elements[0].orig_width == size


def test_a_strip_that_shows_through_its_edit_is_said_to(project, session, start):
    strip = project.image_strip(count=2)
    strip.blend_alpha = 0.5
    start(strip)
    session_job_done(session)
    assert any(note.startswith("The strip is partly transparent") for note in session.job.notes)


def test_a_strip_deleted_while_it_is_edited(project, session, start):
    strip = start()
    reach(session, "running", "fetching")
    project.strips.remove(strip)
    reach(session, "unplaced")
    frames = session.job.folder / "frames"
    assert len(list(frames.iterdir())) == 2
    assert str(session.job.trouble) == (
        f"'clip' is no longer in this file. The edited frames are in {frames}. "
        "Mend that and choose Place Here, or add them with Add, Image/Sequence."
    )
    session.tick()
    assert session.job.state == "unplaced" and not session.busy and len(project.strips) == 0
    bpy.ops.wm.open_mainfile(filepath=str(project.path))  # with the strip, as an undo would bring it
    reach(session, "done")
    assert frames_of(result_of(project, session))[0].shape == (HEIGHT, WIDTH, 4)


def test_where_no_channel_is_free_the_result_waits_for_one(project, session, start):
    strip = start()
    reach(session, "running", "fetching")
    locked = [channel for channel in project.editor.channels if channel != project.editor.channels[strip.channel]]
    for channel in locked:
        channel.lock = True
    reach(session, "unplaced")
    assert "no free channel" in str(session.job.trouble) and bpy.ops.fatezero.place_here.poll()
    assert bpy.ops.fatezero.place_here() == {"FINISHED"}
    reach(session, "unplaced")
    for channel in locked:
        channel.lock = False
    assert bpy.ops.fatezero.place_here(job=session.job.id) == {"FINISHED"}
    reach(session, "done")
    assert session.job.result in project.strips and session.job.trouble is None


def test_another_file_opened_while_it_is_edited(project, session, start, tmp_path):
    start()
    reach(session, "running", "fetching")
    new_file()
    project.save(tmp_path / "other.blend")
    reach(session, "unplaced")
    frames = session.job.folder / "frames"
    assert frames.is_relative_to(project.folder) and len(list(frames.iterdir())) == 2
    assert str(session.trouble) == (
        f"'clip' is not in the file that is open now. The edited frames are in {frames}. "
        "Open project.blend to place them, or place them here."
    )
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".blend1"].count("fatezero") == 0
    assert not session.busy
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    reach(session, "done")
    assert (session.job.state, session.trouble) == ("done", None)
    assert frames_of(result_of(project, session))[0].shape == (HEIGHT, WIDTH, 4)


def test_the_file_opened_again_while_it_is_edited(project, session, start):
    start()
    reach(session, "running", "fetching")
    new_file()
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    session_job_done(session)
    assert result_of(project, session).channel == 2


def test_the_file_saved_elsewhere_while_it_is_edited(project, session, start, tmp_path):
    start(steps=30)
    reach(session, "running")
    (tmp_path / "moved").mkdir()
    project.save(tmp_path / "moved" / "project.blend")
    session_job_done(session)
    assert session.job.folder.is_relative_to(tmp_path / "moved")
    assert len(frames_of(result_of(project, session))) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_footage_and_projects_whose_names_are_no_text(addon, project, session):
    strip, odd = project.image_strip(count=1), os.fsdecode(b"old \xfcmlaut")
    (project.folder / "media" / "clip").rename(project.folder / "media" / odd)
    strip.directory = f"{project.folder / 'media' / odd}/"
    project.select(strip)
    project.save()
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    assert (session.job.state, session.trouble) == ("done", None)
    result = result_of(project, session)
    assert addon.again.source_strip(result) == strip
    project.save(project.folder / f"{odd}.blend")
    assert bpy.ops.fatezero.render_again(strip=result.name, force=True) == {"FINISHED"}


def test_the_strip_changes_before_all_of_it_is_exported(addon, project, session, start):
    for change, words in (
        (lambda strip: project.strips.remove(strip), "'clip' was deleted before all of it was exported."),
        (lambda strip: addon.compat.set_handles(strip, 11, 14), "'clip' was trimmed while it was exported."),
        (lambda strip: new_file(), "Another file was opened before all of 'clip' was exported."),
    ):
        strip = project.image_strip(f"media {words[:20]}", count=5)
        strip.name = "clip"
        start(strip)
        session.job.export_step(session.client)
        assert len(bpy.data.scenes) == 2
        change(strip)
        session.tick()
        assert session.job.state == "failed"
        assert str(session.trouble).startswith(words)
        assert len(bpy.data.scenes) == 1
        if project.scene.sequence_editor:
            for left in list(project.strips):
                project.strips.remove(left)
    assert not (project.folder / "fatezero").exists()


@pytest.mark.parametrize("state", ["exporting", "sending", "queued", "running", "fetching"])
def test_cancel(project, session, start, state):
    start(project.image_strip(count=6), steps=100 if state in ("queued", "running") else 1)
    if state != "exporting":
        reach(session, state, *({"sending", "queued", "running"} if state in ("sending", "queued") else ()))
    assert bpy.ops.fatezero.cancel() == {"FINISHED"}
    if session.busy:
        assert not bpy.ops.fatezero.cancel.poll()
        reach(session, "cancelled")
    assert session.trouble is None
    assert not (project.folder / "fatezero").exists()
    assert len(project.strips) == 1


def test_what_only_the_engine_can_judge_comes_in_its_words(project, session, start, tmp_path):
    start(model_folder=str(tmp_path / "no checkpoint"))
    reach(session, "failed")
    assert str(tmp_path / "no checkpoint") in str(session.trouble)
    assert not (project.folder / "fatezero").exists()


def test_words_that_were_cut_are_named(project, session, start):
    start(source="a red ball " + "on the floor " * 30, target="a blue ball", steps=1)
    session_job_done(session)
    assert any("floor" in note for note in session.job.notes), session.job.notes


def test_big_buck_bunny(addon, project, session):
    """A real clip: H.264, 16 frames out of its middle, at a size of the project's own."""
    project.scene.render.resolution_x, project.scene.render.resolution_y = 160, 90
    project.scene.render.fps = 25
    strip = project.strips.new_movie(
        name="bunny", filepath=os.environ["FATEZERO_BBB"], channel=1, frame_start=1, fit_method="FIT"
    )
    addon.compat.set_handles(strip, 41, 57)
    project.prompts("a rabbit on a meadow", "a rabbit on the snow", steps=1)
    project.select(strip)
    project.save()
    before = project.snapshot()
    digest = Path(os.environ["FATEZERO_BBB"]).read_bytes()

    bpy.ops.fatezero.edit_strip()

    result = result_of(project, session)
    assert (addon.compat.left_handle(result), addon.compat.right_handle(result)) == (41, 57)
    edited = frames_of(result)
    assert [frame.shape for frame in edited] == [(90, 160, 4)] * 16
    assert [element.filename for element in result.elements] == [f"{number:05}.png" for number in range(1, 17)]
    project.strips.remove(result)
    assert project.snapshot() == before
    assert Path(os.environ["FATEZERO_BBB"]).read_bytes() == digest
