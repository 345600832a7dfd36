"""What is drawn over the preview: where, which masks, which frames. That it looks right is checked by eye."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, move, random_frames
from tests.blender_addon.masks import array, write_set
from tests.blender_addon.test_mask_sets import result


@pytest.fixture
def preview(addon, project):
    yield addon.preview
    shutil.rmtree(addon.folders.masks_folder())
    view = addon.preview.settings.view()
    view.words.clear()
    view.compare, view.masks, view.divider = "OFF", True, 0.5
    addon.preview.layers.forget()
    addon.preview.layers._remembered.clear()
    addon.preview.compare.renders.clear()


def region(width: int, height: int, zoom: float, pan: tuple[float, float]):
    """A region whose view shows `pan` in its centre, at `zoom` pixels for each of the picture's."""

    def region_to_view(x, y):
        return (x - width / 2) / zoom + pan[0], (y - height / 2) / zoom + pan[1]

    return SimpleNamespace(width=width, height=height, view2d=SimpleNamespace(region_to_view=region_to_view))


def test_where_the_picture_lies(preview, project):
    Rect, scene = preview.geometry.Rect, project.scene
    assert preview.geometry.picture(region(640, 480, 2.0, (0, 0)), scene) == Rect(256, 192, 128, 96)
    assert preview.geometry.picture(region(640, 480, 4.0, (-8, 6)), scene) == Rect(224, 120, 256, 192)
    scene.render.pixel_aspect_x = 2.0
    scene.render.resolution_percentage = 50  # shown as large, but with fewer pixels
    assert preview.geometry.picture(region(640, 480, 2.0, (0, 0)), scene) == Rect(192, 192, 256, 96)


def test_rectangles(preview):
    Rect = preview.geometry.Rect
    shown = Rect(100, 50, 200, 100)
    left = shown.part(0.0, 0.25)
    assert left == Rect(100, 50, 50, 100) and left.texture(shown) == (0.0, 1.0, 0.25, 0.0)
    assert shown.clipped(Rect(0, 0, 150, 100)) == Rect(100, 50, 50, 50)
    assert shown.clipped(Rect(400, 0, 10, 10)).width == 0
    (before, seen_before), (after, seen_after) = preview.geometry.halves(Rect(0, 0, 400, 200), shown)
    assert before == seen_before == Rect(50, 75, 100, 50) and after == seen_after == Rect(250, 75, 100, 50)
    (before, seen_before), (after, seen_after) = preview.geometry.halves(Rect(0, 0, 400, 200), Rect(-300, 0, 800, 200))
    assert before.width == 400 and seen_before == Rect(0, 50, 200, 100) and seen_after == Rect(200, 50, 200, 100)
    assert seen_before.texture(before) == seen_after.texture(after)  # both show the same part


def test_words_are_listed_for_the_strip_one_is_at(addon, preview, project):
    strip, view = project.image_strip(), preview.settings.view()
    source = addon.strips.describe(project.scene, strip)
    write_set(addon, source)
    other = project.image_strip("other", channel=2)
    project.scene.frame_current = 12
    assert preview.layers.sync(project.scene) and not preview.layers.sync(project.scene)
    assert [word.name for word in view.words] == ["a", "red", "ball"]
    assert len({tuple(word.colour) for word in view.words}) == 3
    assert preview.layers.shown(project.scene) == []
    view.words["ball"].shown, view.words["ball"].colour = True, (0.5, 0.25, 1.0)
    (layer,) = preview.layers.shown(project.scene)
    assert (layer.path.name, layer.colour) == ("w02_00003.png", (0.5, 0.25, 1.0))
    move(strip, 1)
    addon.compat.set_handles(strip, 12, 14)
    names = []
    for frame in range(10, 16):
        project.scene.frame_current = frame
        names.append([layer.path.name for layer in preview.layers.shown(project.scene)])
    assert names == [[], [], ["w02_00002.png"], ["w02_00003.png"], [], []]
    project.select(other)
    project.scene.frame_current = 40
    assert preview.layers.sync(project.scene) and len(view.words) == 0
    project.select(strip)
    assert preview.layers.sync(project.scene)
    assert view.words["ball"].shown and tuple(view.words["ball"].colour) == (0.5, 0.25, 1.0)
    strip.mute = True
    project.scene.frame_current = 12
    assert preview.layers.shown(project.scene) == []


def test_the_mask_of_an_edit_is_listed_with_its_result(addon, preview, project):
    strip = project.image_strip()
    source = addon.strips.describe(project.scene, strip)
    write_set(addon, source, "survey")
    write_set(addon, source, "edit", kinds=["blend"])
    made = result(addon, project, source, "edit")
    project.scene.frame_current = 11
    project.select(made)
    preview.layers.sync(project.scene)
    listed = [(word.name, word.kind, word.mask_set) for word in preview.settings.view().words]
    assert listed == [(name, "word", "survey") for name in ("a", "red", "ball")] + [("a", "blend", "edit")]


def test_what_is_wanted_is_read_between_two_drawings(addon, preview, project):
    folder = write_set(addon, addon.strips.describe(project.scene, project.image_strip()))
    path, files = folder / "w00_00001.png", preview.pictures.Pictures(most_bytes=500)
    files.want(path, lambda: addon.png.read(path))
    assert files.get(path) is None and files.wanting
    assert files.load(1.0) and not files.load(1.0)
    assert files.get(path).width == 16 and not files.wanting
    for number in range(1, 4):  # of 192 bytes each
        other = folder / f"w00_0000{number + 1}.png"
        files.want(other, lambda other=other: addon.png.read(other))
        files.load(1.0)
        files.get(path)
    assert files.get(path) and files.get(other) and not files.get(folder / "w00_00003.png")
    files.want("gone", lambda: addon.png.read(folder / "none.png"))
    assert files.load(1.0) and "none.png" in str(files.get("gone"))


def test_before_is_the_frame_without_the_results(addon, preview, project):
    project.scene.view_settings.view_transform = "Standard"
    strip = project.image_strip()
    source = addon.strips.describe(project.scene, strip)
    folder = project.folder / "media"
    project.image_strip("edited", channel=9, seed=2)
    origin = addon.reimport.Origin(
        job_id="job",
        source="a",
        target="b",
        settings="{}",
        model="m",
        engine="1",
        protocol=1,
        strip="clip",
        source_digest="d",
    )
    made = project.strips[addon.reimport.insert(source, sorted((folder / "edited").iterdir()), origin)]
    project.strips.remove(project.strips["edited"])
    project.scene.frame_current = 12
    assert preview.compare.results(project.scene) == {made.name}
    made.keyframe_insert("mute", frame=1)  # which brings it back in any copy
    before, scenes = project.snapshot(), len(bpy.data.scenes)
    for muted, seed in ((frozenset({made.name}), 1), (frozenset(), 2)):
        picture = addon.renders.before("Scene", 12, muted, 100)
        assert np.array_equal(array(picture), random_frames(FRAMES, (WIDTH, HEIGHT), False, seed)[2][..., :3])
    half = addon.renders.before("Scene", 12, frozenset(), 50)
    assert (half.width, half.height) == (WIDTH // 2, HEIGHT // 2)
    assert project.snapshot() == before and len(bpy.data.scenes) == scenes
    project.scene.frame_current = 30
    assert preview.compare.results(project.scene) == frozenset() and not preview.compare.has_something(project.scene)


def test_sizes_that_are_rendered(addon, project):
    project.scene.render.resolution_x = 1000
    assert [addon.renders.percentage(project.scene, width) for width in (1, 250, 251, 700, 5000)] == [
        25, 25, 50, 75, 100,
    ]  # fmt: skip


def test_a_running_job_is_seen_at_its_strip(addon, preview, project):
    strip = project.image_strip()
    project.prompts()
    source = addon.strips.describe(project.scene, strip)
    job = addon.job.Job("job", source, project.scene.fatezero.as_edit(), addon.documents.current(), "")
    job.preview = SimpleNamespace(pictures=[b"one", b"two"], frames=[0, 4], step=3, steps=50)
    addon.jobs.session.jobs.append(job)
    try:
        found = []
        for frame in (9, 10, 11, 13, 15, 16):
            project.scene.frame_current = frame
            live = preview.live.at(project.scene)
            found.append(live and (live.data, live.label))
        assert found == [None, *[(b"one", "Step 3 of 50")] * 2, *[(b"two", "Step 3 of 50")] * 2, None]
        job.preview = None
        assert preview.live.at(project.scene) is None
    finally:
        addon.jobs.session.jobs.remove(job)


def test_the_keys_turn_on_what_was_last_shown(preview):
    view = preview.settings.view()
    bpy.ops.fatezero.compare()
    assert view.compare == "WIPE"
    view.compare = "SIDE"
    bpy.ops.fatezero.compare()
    assert view.compare == "OFF"
    bpy.ops.fatezero.compare()
    assert view.compare == "SIDE"
    bpy.ops.fatezero.toggle_masks()
    assert not view.masks
