"""Parts of strips: ranges, sizes, held frames and small strips, and that they land where they were taken from."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, add_modifier, random_frames, read_image


@pytest.fixture
def exported(addon, project, tmp_path):
    """What the panel's settings take of a strip, and its frames."""

    def run(strip, **work):
        for name, value in work.items():
            setattr(project.scene.fatezero_work, name, value)
        source = addon.extent.part(addon.strips.describe(project.scene, strip), strip, project.scene)
        folder = tmp_path / f"exported {len(list(tmp_path.iterdir()))}"
        exporting = addon.export.Export(source, folder)
        while not exporting.complete:
            exporting.render_next()
        return source, [read_image(path) for path in exporting.frames]

    return run


def full(addon, strip, tmp_path, frame=10) -> np.ndarray:
    """The whole picture with the strip alone."""
    path = tmp_path / "full.png"
    addon.export.render(addon.export.copy_scene(strip), frame, path)
    addon.export.clear()
    return read_image(path)


def test_a_range(addon, project, exported):
    source, frames = exported(project.image_strip(), frames="RANGE", first=12, last=13)
    assert (source.first, source.count, source.trim, source.whole) == (12, 2, (2, 2), (10, 16))
    assert np.array_equal(frames, random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)[2:4])


def test_the_preview_range(addon, project, exported):
    strip = project.image_strip()
    with pytest.raises(addon.trouble.Trouble, match="no preview range"):
        exported(strip, frames="PREVIEW")
    project.scene.use_preview_range = True
    project.scene.frame_preview_start, project.scene.frame_preview_end = 1, 11
    source, frames = exported(strip)
    assert (source.first, source.count) == (10, 2) and len(frames) == 2
    project.scene.frame_preview_end = 5
    with pytest.raises(
        addon.trouble.Trouble, match="'clip' has no frame in the range to edit. Its frames are 10 to 15"
    ):
        exported(strip)


def test_held_frames(addon, project, exported):
    source, frames = exported(project.image_strip(), step=4, between="HOLD")
    assert (source.pictures, addon.extent.count_of(project.strips["clip"], project.scene)) == (2, (2, FRAMES))
    assert np.array_equal(frames, random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)[::4])


def test_frames_that_motion_fills_are_exported_too(addon, project, exported):
    source, frames = exported(project.image_strip(), step=4, between="MOTION")
    assert (source.pictures, len(frames)) == (FRAMES, FRAMES)
    project.prompts(steady=2)
    settings = project.scene.fatezero.as_edit()
    assert (settings.keyframe_step, settings.steady) == (4, 2)
    whole, part = (addon.estimates.Amount(FRAMES, 20, 1, "builtin", step) for step in (1, 4))
    assert (whole.edited, part.edited, addon.estimates.amount_of(source, settings).edited) == (FRAMES, 3, 3)
    project.scene.fatezero_work.step = 1
    project.scene.fatezero.show(settings)
    assert project.scene.fatezero.as_edit() == settings
    project.scene.fatezero_work.between = "HOLD"
    assert project.scene.fatezero.as_edit().keyframe_step == 1


def test_a_smaller_size(addon, project, exported):
    source, frames = exported(project.image_strip(count=1), percent=50)
    assert source.frame_size == (WIDTH // 2, HEIGHT // 2)
    assert frames[0].shape == (HEIGHT // 2, WIDTH // 2, 4)
    assert addon.extent.placement(source) == (2.0, 2.0, 0.0, 0.0)


@pytest.mark.parametrize("size", [(64, 48), (41, 31), (300, 120), (40, 20)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("project_size", [(160, 90), (161, 91)])
def test_a_small_strip_is_worked_on_where_it_is_seen(addon, project, exported, tmp_path, size, flip, project_size):
    project.scene.render.resolution_x, project.scene.render.resolution_y = project_size
    strip = project.image_strip(count=1, size=size)
    strip.transform.offset_x, strip.transform.offset_y = 35, -20
    strip.transform.scale_x = strip.transform.scale_y = 48 / size[0]
    strip.transform.rotation, strip.crop.min_x, strip.use_flip_x = 0.3, 7, flip
    source, (frame,) = exported(strip)
    if source.box is None:  # half a pixel would be rounded another way
        assert (size[0] - project_size[0]) % 2 or (size[1] - project_size[1]) % 2
        return
    left, bottom, width, height = source.box
    assert width * height < 0.5 * project_size[0] * project_size[1]
    whole = full(addon, strip, tmp_path)
    top = project_size[1] - bottom - height
    difference = whole[top : top + height, left : left + width].astype(int) - frame
    assert np.abs(difference).max() < 10 and (difference != 0).mean() < 0.01  # the interpolation rounds
    whole[top : top + height, left : left + width] = 0
    assert not whole.any()  # it shows nothing outside


def test_the_result_of_a_small_strip_covers_the_same_pixels(addon, project, exported, tmp_path):
    strip = project.image_strip(count=2, size=(40, 30))
    strip.transform.offset_x, strip.transform.offset_y, strip.transform.rotation = 9, -7, 0.2
    project.scene.render.resolution_x, project.scene.render.resolution_y = 160, 91
    source, _ = exported(strip)
    folder = project.folder / "made"
    exporting = addon.export.Export(source, folder)
    while not exporting.complete:
        exporting.render_next()
    origin = addon.reimport.Origin(
        job_id="j", source="", target="", settings="{}", model="", engine="", protocol=1, strip="", source_digest=""
    )
    result = project.strips[addon.reimport.insert(source, exporting.frames, origin)]
    assert np.array_equal(full(addon, result, tmp_path), full(addon, strip, tmp_path))


def test_where_a_strip_is_not_plain_the_whole_picture_is_taken(addon, project, exported):
    project.scene.render.resolution_x, project.scene.render.resolution_y = 160, 90
    strip = project.image_strip(count=1)
    assert exported(strip)[0].box is not None
    add_modifier(strip, "m", "TONEMAP")
    assert exported(strip)[0].box is None
    strip.modifiers.clear()
    strip.transform.driver_add("offset_x").driver.expression = "frame"
    assert exported(strip)[0].box is None
    strip.transform.driver_remove("offset_x")
    assert exported(strip)[0].box is not None
    strip.transform.keyframe_insert("offset_x", frame=10)
    assert exported(strip)[0].box is None
    assert bpy.data.scenes[0].animation_data
