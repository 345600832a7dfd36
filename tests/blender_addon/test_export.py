"""What leaves Blender is what the user sees, and the user's scene does not notice."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, in_a_window, move, random_frames, read_image


@pytest.fixture
def export(addon, project, tmp_path):
    """Export a strip whole, into a folder that is not the add-on's own."""

    def run(strip) -> list[np.ndarray]:
        source = addon.strips.describe(project.scene, strip)
        exporting = addon.export.Export(source, tmp_path / "exported {y}")
        before = project.snapshot()
        images = [image.name for image in bpy.data.images]
        while not exporting.complete:
            exporting.render_next()
        assert project.snapshot() == before
        assert [image.name for image in bpy.data.images] == images
        assert [path.name for path in exporting.frames] == [f"{n:05}.png" for n in range(1, source.count + 1)]
        assert sorted(exporting.folder.iterdir()) == exporting.frames
        frames = [read_image(path) for path in exporting.frames]
        exporting.discard()
        assert not exporting.folder.exists()
        return frames

    return run


def same(left, right) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right))


@pytest.mark.parametrize("alpha", [False, True])
def test_an_image_sequence_comes_back_byte_exact(project, export, alpha):
    strip = project.image_strip(alpha=alpha)
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), alpha, 1))


def test_the_projects_look_is_not_baked_in(project, export):
    scene = project.scene
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 1.5
    scene.render.dither_intensity = 2.0
    scene.render.resolution_percentage = 50
    scene.render.use_stamp = True
    scene.render.image_settings.file_format = "JPEG"
    scene.render.use_border, scene.render.border_max_x = True, 0.5
    scene.render.frame_map_new = 200
    scene.frame_step, scene.frame_start, scene.frame_end = 3, 12, 13
    assert same(export(project.image_strip()), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))


def test_nobody_hears_of_its_renders(project, export):
    heard = []
    handlers = {name: getattr(bpy.app.handlers, name) for name in ("render_pre", "render_write", "render_complete")}
    for name, found in handlers.items():
        found.append(lambda *_, name=name: heard.append(name))
    before = {name: list(found) for name, found in handlers.items()}
    export(project.image_strip(count=2))
    assert heard == [] and {name: list(found) for name, found in handlers.items()} == before
    for found in handlers.values():
        found.pop()


def test_only_the_strip_is_shown(project, export):
    strip = project.image_strip(channel=2)
    for channel, name in ((1, "below"), (3, "above")):
        project.image_strip(name, channel=channel, seed=channel + 1)
    project.effect("COLOR", "cover", 5, 1, 40)
    project.effect("ADJUSTMENT", "tint", 6, 1, 40)
    strip.mute = True
    project.editor.channels[2].mute = True
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))


def test_only_the_strip_is_shown_where_the_others_are_animated(project, export):
    strip = project.image_strip(channel=1)
    other = project.image_strip("above", channel=2, seed=2)
    for frame, muted in ((1, True), (12, False)):
        for each in (strip, other):
            each.mute = muted
            each.keyframe_insert("mute", frame=frame)
    driven = project.effect("COLOR", "cover", 3, 1, 40)
    driven.driver_add("mute").driver.expression = "False"
    before = [(action.name, action.users) for action in bpy.data.actions]
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))
    assert [(action.name, action.users) for action in bpy.data.actions] == before


def test_trims_come_as_seen(addon, project, export):
    strip = project.image_strip()
    addon.compat.set_handles(strip, 12, 15)
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)[2:5])


def test_transforms_come_as_seen(project, export):
    strip = project.image_strip(count=1)
    strip.transform.offset_x = 10
    strip.crop.max_x = 20
    (frame,) = export(strip)
    (source,) = random_frames(1, (WIDTH, HEIGHT), False, 1)
    assert np.array_equal(frame[:, 10:-10], source[:, :-20])
    assert not frame[:, :10].any() and not frame[:, -10:].any()


def test_flips_come_as_seen(project, export):
    strip = project.image_strip(count=1)
    strip.use_flip_x = True
    assert np.array_equal(export(strip)[0], random_frames(1, (WIDTH, HEIGHT), False, 1)[0][:, ::-1])


def test_speed_comes_as_seen(addon, project, export):
    strip = project.image_strip()
    strip.use_reverse_frames = True
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)[::-1])


def test_an_effect_is_exported_with_what_it_works_on(project, export):
    strip = project.image_strip()
    effect = project.effect("GAUSSIAN_BLUR", "blur", 2, 10, 10 + FRAMES, strip)
    effect.size_x = effect.size_y = 4.0
    blurred = export(effect)
    sources = random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)
    assert len(blurred) == FRAMES
    for frame, source in zip(blurred, sources):
        assert frame[..., :3].std() < source[..., :3].std() / 2
        assert abs(float(frame[..., :3].mean()) - float(source[..., :3].mean())) < 12


@pytest.fixture
def nested(addon, project):
    """A meta strip and the image strip in it, from frame 20 on."""
    strip = project.image_strip("within", channel=1, start=20)
    meta = project.strips.new_meta(name="meta", channel=3, frame_start=20)
    strip.move_to_meta(meta)
    for each in (strip, meta):  # from the inside out, as Blender counts a meta's frames
        addon.compat.set_handles(each, 20, 20 + FRAMES)
    return meta, strip


def test_a_strip_in_a_meta_comes_as_it_is_within(addon, project, export, nested):
    meta, strip = nested
    project.effect("COLOR", "cover", 5, 15, 30, within=meta)
    meta.transform.scale_x, meta.blend_alpha = 0.5, 0.3
    addon.compat.set_handles(meta, 21, 24)
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))


def test_a_metas_own_animation_does_not_come_with_what_is_in_it(project, export, nested):
    meta, strip = nested
    for frame, alpha, scale in ((20, 0.0, 0.2), (24, 0.8, 0.5)):
        meta.blend_alpha = alpha
        meta.keyframe_insert("blend_alpha", frame=frame)
        meta.transform.scale_x = scale
        meta.transform.keyframe_insert("scale_x", frame=frame)
    assert same(export(strip), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))


def test_what_is_animated_in_a_strip_comes_as_seen(project, export):
    strip = project.image_strip(count=3)
    for frame, alpha in ((10, 0.0), (12, 1.0)):
        strip.blend_alpha = alpha
        strip.keyframe_insert("blend_alpha", frame=frame)
    strip.keyframe_insert("mute", frame=1)
    assert [int(frame[0, 0, 3]) // 100 for frame in export(strip)] == [0, 1, 2]


def test_what_the_user_has_not_keyed_yet_stays(addon, project, tmp_path):
    strip = project.image_strip(count=1)
    bpy.context.window.scene = project.scene
    other = project.image_strip("other", channel=2)
    colour = project.effect("COLOR", "colour", 3, 1, 40)
    for item, name in ((other, "blend_alpha"), (other.transform, "offset_x"), (colour, "color"), (other, "mute")):
        item.keyframe_insert(name, frame=1)
    project.scene.frame_set(1)
    other.blend_alpha, other.transform.offset_x, other.mute = 0.25, 7.0, True
    colour.color = (0.5, 0.25, 1.0)
    addon.export.Export(addon.strips.describe(project.scene, strip), tmp_path / "x").render_next()
    assert (other.blend_alpha, other.transform.offset_x, other.mute, *colour.color) == (0.25, 7.0, True, 0.5, 0.25, 1.0)


def test_a_meta_comes_as_seen(export, nested):
    assert same(export(nested[0]), random_frames(FRAMES, (WIDTH, HEIGHT), False, 1))


def test_opacity_is_kept_as_alpha(project, export):
    strip = project.image_strip(count=1)
    strip.blend_alpha = 0.5
    (frame,) = export(strip)
    assert abs(int(frame[0, 0, 3]) - 128) <= 1


@pytest.mark.parametrize("size", [(63, 47), (17, 200)])
def test_odd_sizes_and_aspects(project, export, size):
    project.scene.render.resolution_x, project.scene.render.resolution_y = size
    strip = project.image_strip(size=size, count=2)
    assert same(export(strip), random_frames(2, size, False, 1))


def test_equal_frames_are_equal_files(addon, project, tmp_path):
    strip = project.image_strip(count=1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        addon.export.render(addon.export.copy_scene(strip), 10, tmp_path / name / "frame.png")
        addon.export.clear()
    assert (tmp_path / "a" / "frame.png").read_bytes() == (tmp_path / "b" / "frame.png").read_bytes()


@pytest.fixture
def half_way(addon, project, tmp_path):
    """An export of six frames of which two are done."""
    strip = project.image_strip()
    exporting = addon.export.Export(addon.strips.describe(project.scene, strip), tmp_path / "half")
    for _ in range(2):
        exporting.render_next()
    assert len(bpy.data.scenes) == 2
    yield exporting
    exporting.discard()


def finished_right(exporting) -> bool:
    while not exporting.complete:
        exporting.render_next()
    frames = [read_image(path) for path in exporting.frames]
    return same(frames, random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)) and len(bpy.data.scenes) == 1


def test_a_save_between_two_frames_keeps_no_copy(project, half_way):
    saved = project.folder / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(saved), copy=True)
    with bpy.data.libraries.load(str(saved)) as (found, _):
        assert found.scenes == ["Scene"]
    assert finished_right(half_way)


def test_an_undo_between_two_frames_brings_no_copy_back(addon, project, half_way):
    with in_a_window(addon):
        bpy.ops.ed.undo_push(message="with the copy in it")
        half_way.render_next()
        bpy.ops.ed.undo_push(message="another")
        bpy.ops.ed.undo()
        assert [scene.name for scene in bpy.data.scenes] == ["Scene"]
        half_way.render_next()
        bpy.ops.ed.redo()
        assert [scene.name for scene in bpy.data.scenes] == ["Scene"]
    assert finished_right(half_way)


def test_a_strip_moved_between_two_frames_is_exported_whole(addon, project, half_way):
    strip = project.strips["clip"]
    strip.channel = 7
    move(strip, 30)
    half_way.render_next()
    addon.export.clear()
    assert finished_right(half_way)


def test_a_strip_renamed_between_two_frames_is_exported_whole(project, half_way):
    project.strips["clip"].name = "renamed"
    assert finished_right(half_way)


def test_two_exports_at_once_do_not_take_each_others_copy(addon, project, half_way, tmp_path):
    strip = project.image_strip("other", channel=2, seed=2)
    other = addon.export.Export(addon.strips.describe(project.scene, strip), tmp_path / "other")
    other.render_next()
    addon.export.clear()  # as a save does
    while not other.complete:
        other.render_next()
        if not half_way.complete:
            half_way.render_next()
    assert same([read_image(path) for path in other.frames], random_frames(FRAMES, (WIDTH, HEIGHT), False, 2))
    assert finished_right(half_way)
