"""Results made anew in their place, as versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import (
    HEIGHT,
    WIDTH,
    add_modifier,
    in_a_window,
    move,
    new_file,
    random_frames,
    reach,
    read_image,
    write_png,
)

pytestmark = pytest.mark.usefixtures("engine")
COUNT = 4


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def source(project):
    return project.image_strip(count=COUNT)


@pytest.fixture
def result(project, session, source):
    """A result of a strip of four frames, active."""
    project.select(source)
    project.prompts(steps=2)
    project.save()
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    made = project.strips[session.job.result]
    project.select(made)
    return made


def repaint(project, seed: int = 9) -> None:
    """The source's files show something else."""
    for path, pixels in zip(
        sorted((project.folder / "media" / "clip").iterdir()), random_frames(COUNT, (WIDTH, HEIGHT), False, seed)
    ):
        write_png(path, pixels)


def frames_of(strip) -> np.ndarray:
    folder = Path(bpy.path.abspath(strip.directory))
    return np.stack([read_image(folder / element.filename) for element in strip.elements])


def where(addon, strip):
    return strip.channel, addon.compat.left_handle(strip), addon.compat.right_handle(strip)


def test_versions_are_found_after_the_file_was_saved_elsewhere(addon, project, session, result, tmp_path):
    assert bpy.ops.fatezero.render_again(force=True) == {"FINISHED"}
    first, second = (version.origin.job_id for version in addon.versions.of(result))
    shown = frames_of(result)
    (tmp_path / "elsewhere").mkdir()
    project.save(tmp_path / "elsewhere" / "other.blend")
    for version in (first, second, first):
        assert bpy.ops.fatezero.show_version(version=version) == {"FINISHED"}
        assert addon.reimport.origin_of(result).job_id == version
        assert np.array_equal(frames_of(result), shown)


def test_nothing_is_done_where_nothing_changed(project, session, result):
    jobs = list(session.jobs)
    assert bpy.ops.fatezero.render_again() == {"CANCELLED"}
    assert session.jobs == jobs
    move(project.strips["clip"], 3)  # moving the source changes nothing in its picture
    project.strips["clip"].channel = 7
    assert bpy.ops.fatezero.render_again() == {"CANCELLED"}
    assert bpy.ops.fatezero.render_again(force=True) == {"FINISHED"}
    assert len(session.jobs) == 2 and session.job.trouble is None


def test_a_changed_source_gives_a_new_version_in_place(addon, project, session, result):
    addon.compat.set_handles(result, 11, 13)
    result.channel, result.name = 6, "my result"
    result.transform.scale_x, result.blend_alpha = 0.5, 0.7
    add_modifier(result, "Bright", "BRIGHT_CONTRAST")
    result.keyframe_insert("blend_alpha", frame=11)
    before, place, files = frames_of(result), where(addon, result), result.directory
    repaint(project)
    assert bpy.ops.fatezero.render_again() == {"FINISHED"}
    assert sorted(project.strips.keys()) == ["clip", "my result"]
    assert where(addon, result) == place
    assert (result.transform.scale_x, result.modifiers.keys()) == (0.5, ["Bright"])
    assert result.blend_alpha == pytest.approx(0.7) and len(list(addon.compat.fcurves(result.id_data))) == 1
    assert result.directory != files and not np.array_equal(frames_of(result), before)
    found = addon.versions.of(result)
    assert [version.origin.job_id for version in found] == [job.id for job in session.jobs]

    assert bpy.ops.fatezero.show_version(version=found[0].origin.job_id) == {"FINISHED"}
    assert np.array_equal(frames_of(result), before) and where(addon, result) == place
    assert addon.versions.of(result) == found
    assert bpy.ops.fatezero.show_version(version=found[1].origin.job_id) == {"FINISHED"}
    assert not np.array_equal(frames_of(result), before)


def test_the_engine_is_not_asked_where_the_frames_are_the_same(addon, project, session, result):
    for path in (project.folder / "media" / "clip").iterdir():
        path.touch()  # the date is new, the picture is not
    directory, sent = result.directory, session.job.id
    assert bpy.ops.fatezero.render_again() == {"FINISHED"}
    assert session.job.id != sent and not session.job.at_engine
    assert "nothing was computed" in session.job.notes[0]
    assert result.directory == directory and len(addon.versions.of(result)) == 1
    assert bpy.ops.fatezero.render_again() == {"CANCELLED"}  # now it is known without looking


def test_with_the_panels_settings(addon, project, session, result):
    project.prompts(target="a green ball")
    assert bpy.ops.fatezero.render_again(use_panel=True) == {"FINISHED"}
    assert addon.reimport.origin_of(result).target == "a green ball"
    assert [version.origin.target for version in addon.versions.of(result)] == ["a blue ball", "a green ball"]


def test_a_draft_says_so_and_is_made_in_full_with_one_click(addon, project, session, source):
    """A second version of the same strip, with all other settings as they were; the draft's frames stay."""
    project.select(source)
    project.prompts(steps=3, quality="DRAFT")
    project.save()
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    result = project.strips[session.job.result]
    project.select(result)
    draft, before = addon.again.settings_of(addon.reimport.origin_of(result)), frames_of(result)
    assert (draft.steps, draft.reuse) == (3, 5) and addon.reimport.is_draft(addon.reimport.origin_of(result))
    project.scene.fatezero.quality = "FULL"
    assert bpy.ops.fatezero.edit_again() == {"FINISHED"}
    assert project.scene.fatezero.quality == "DRAFT" and project.scene.fatezero.as_edit() == draft
    project.select(result)

    project.prompts(target="a green ball")  # the panel has no say in it
    assert bpy.ops.fatezero.render_again(full=True) == {"FINISHED"}
    full = addon.again.settings_of(addon.reimport.origin_of(result))
    assert (full.steps, full.reuse) == (3, 1) and addon.protocol.settings.draft_of(full) == draft
    assert not np.array_equal(frames_of(result), before)
    texts = [
        addon.panels.versions.version_text(number, version)
        for number, version in enumerate(addon.versions.of(result), start=1)
    ]
    assert ["(Draft)" in text for text in texts] == [True, False]
    assert bpy.ops.fatezero.render_again(full=True) == {"CANCELLED"}, "it is there in full"


def test_edit_again_fills_the_panel(addon, project, session, result):
    settings = project.scene.fatezero
    kept = addon.again.settings_of(addon.reimport.origin_of(result))
    project.prompts("a cat", "a dog", preset="shape", steps=40, model="BUILTIN")
    assert bpy.ops.fatezero.edit_again() == {"FINISHED"}
    assert settings.as_edit() == kept
    assert project.editor.active_strip.name == "clip" and not result.select


def test_undo_and_redo(addon, project, session, result):
    name, before = result.name, result.directory
    with in_a_window(addon):
        bpy.ops.ed.undo_push(message="before")
    repaint(project)
    addon.again.of(result, None, False).begin()
    reach(session, "done")
    after = project.strips[name].directory
    with in_a_window(addon):
        bpy.ops.ed.undo()
        assert project.strips[name].directory == before and len(addon.versions.of(project.strips[name])) == 1
        bpy.ops.ed.redo()
        assert project.strips[name].directory == after and len(addon.versions.of(project.strips[name])) == 2


def test_pieces_and_copies_follow_unless_they_are_locked(addon, project, session, result):
    left, right = result, result.split(frame=12, split_method="SOFT")
    locked = right.split(frame=13, split_method="HARD")
    locked.lock = True
    kept = locked.directory
    repaint(project)
    places = [where(addon, strip) for strip in (left, right, locked)]
    assert bpy.ops.fatezero.render_again(strip=left.name) == {"FINISHED"}
    assert [where(addon, strip) for strip in (left, right, locked)] == places
    assert left.directory == right.directory != locked.directory == kept
    assert addon.reimport.origin_of(left) == addon.reimport.origin_of(right)
    with pytest.raises(RuntimeError, match="is locked"):
        bpy.ops.fatezero.render_again(strip=locked.name)


def test_a_source_that_was_trimmed_longer_and_moved(addon, project, session, source, result):
    addon.compat.set_handles(source, 11, 13)
    assert bpy.ops.fatezero.render_again() == {"FINISHED"}
    assert where(addon, result)[1:] == (11, 13) and len(result.elements) == 2
    addon.compat.set_handles(source, 10, 14)
    move(source, 100)
    assert bpy.ops.fatezero.render_again() == {"FINISHED"}
    assert where(addon, result)[1:] == (10, 14) and len(result.elements) == 4  # it stays where the user has it
    bpy.ops.fatezero.show_version(version=addon.versions.of(result)[1].origin.job_id)
    assert where(addon, result)[1:] == (11, 13)


def test_motion_fills_what_the_model_does_not_edit(addon, project, session, source):
    work = project.scene.fatezero_work
    work.step, work.between = 3, "MOTION"
    project.prompts(steady=1)
    project.select(source)
    project.save()
    bpy.ops.fatezero.edit_strip()
    reach(session, "done")
    result = project.strips[session.job.result]
    assert len({element.filename for element in result.elements}) == len(result.elements) == source.frame_final_duration
    kept = addon.again.settings_of(addon.reimport.origin_of(result))
    assert (kept.keyframe_step, kept.steady) == (3, 1)
    work.step = 1
    assert bpy.ops.fatezero.edit_again(strip=result.name) == {"FINISHED"}
    assert project.scene.fatezero.as_edit() == kept


def test_a_range_is_made_anew_as_a_range(addon, project, session, source):
    work = project.scene.fatezero_work
    work.frames, work.first, work.last, work.step, work.between = "RANGE", 11, 13, 2, "HOLD"
    project.select(source)
    project.save()
    bpy.ops.fatezero.edit_strip()
    result = project.strips[session.job.result]
    assert where(addon, result) == (2, 11, 14)
    assert [element.filename for element in result.elements] == ["00001.png", "00001.png", "00002.png"]
    work.frames = "ALL"
    repaint(project)
    assert bpy.ops.fatezero.render_again(strip=result.name) == {"FINISHED"}
    assert where(addon, result) == (2, 11, 14) and len(addon.versions.of(result)) == 2
    assert len(list((session.job.folder / "frames").iterdir())) == 2


def test_a_small_strip_that_was_moved_is_followed(addon, project, session):
    project.scene.render.resolution_x, project.scene.render.resolution_y = 160, 90
    source = project.image_strip(count=1, size=(40, 30))
    project.select(source)
    project.save()
    bpy.ops.fatezero.edit_strip()
    result = project.strips[session.job.result]
    assert read_image(session.job.folder / "frames" / "00001.png").shape == (32, 42, 4)
    source.transform.offset_x = 50
    project.select(result)
    assert bpy.ops.fatezero.render_again() == {"FINISHED"}
    assert (result.transform.offset_x, result.transform.offset_y) == (50, 0)


def test_it_survives_saving_appending_and_a_renamed_scene(addon, project, session, result, tmp_path):
    repaint(project)
    bpy.ops.fatezero.render_again()
    name, found = result.name, addon.versions.of(result)
    project.save()
    other = tmp_path / "other"
    shutil.copytree(project.folder, other)
    new_file()
    bpy.ops.wm.open_mainfile(filepath=str(other / "project.blend"))
    assert addon.versions.of(project.all_strips[name]) == found
    scene = project.scene
    scene.name = "Renamed"
    new_file()
    with bpy.data.libraries.load(str(project.path)) as (_, here):
        here.scenes = ["Scene"]
    appended = here.scenes[0]
    appended.name = "Appended"
    strip = addon.strips.named(appended, name)
    assert addon.again.of(strip).source.scene == "Appended"
    assert addon.again.source_strip(strip).name == "clip"


def test_the_file_opened_again_meanwhile(addon, project, session, result):
    repaint(project)
    name, before = result.name, result.directory
    project.save()
    job = addon.again.of(result).begin()
    reach(session, "running")
    found = addon.job.Job.found(job.record())
    assert (found.replaces, found.fingerprint, found.source) == (job.replaces, job.fingerprint, job.source)
    new_file()
    bpy.ops.wm.open_mainfile(filepath=str(project.path))
    reach(session, "done")
    assert project.strips[name].directory != before and len(addon.versions.of(project.strips[name])) == 2
    assert len(project.strips) == 2


def test_results_deleted_while_they_are_made_anew_come_as_a_new_strip(addon, project, session, result):
    repaint(project)
    job = addon.again.of(result).begin()
    reach(session, "running")
    project.strips.remove(result)
    reach(session, "done")
    assert job.trouble is None and project.strips[job.result].channel == 2


def test_what_is_in_the_way_is_said(addon, project, session, result):
    project.select(project.strips["clip"])
    with pytest.raises(RuntimeError, match="No result of FateZero is selected"):
        bpy.ops.fatezero.render_again()
    project.strips.remove(project.strips["clip"])
    with pytest.raises(RuntimeError, match="'clip', which 'clip FateZero' was made from, is no longer here"):
        bpy.ops.fatezero.render_again(strip=result.name)
    shutil.rmtree(Path(bpy.path.abspath(result.directory)))
    with pytest.raises(RuntimeError, match="The frames of this version are no longer in"):
        bpy.ops.fatezero.show_version(strip=result.name, version=session.job.id)
