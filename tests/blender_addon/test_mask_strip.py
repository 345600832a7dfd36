"""A word's masks as a strip: the right size, frames and handles, and of use to Blender's own mask modifier."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, add_modifier, random_frames, read_image
from tests.blender_addon.masks import array, bilinear, values, write_set
from tests.blender_addon.test_mask_sets import result


@pytest.fixture
def strip(addon, project):
    """A strip that has masks, trimmed to frames 11 to 14."""
    strip = project.image_strip()
    write_set(addon, addon.strips.describe(project.scene, strip))
    addon.compat.set_handles(strip, 11, 15)
    project.select(strip)
    project.scene.frame_current = 12
    yield strip
    shutil.rmtree(addon.folders.masks_folder())
    addon.preview.layers.forget()


def add(**more):
    assert bpy.ops.fatezero.add_mask_strip(mask_set="job", **more) == {"FINISHED"}


def test_the_masks_come_in_over_their_strip(addon, project, strip):
    add(number=1, strip="clip")
    made = project.strips["clip red Mask"]
    assert (made.channel, made.mute) == (2, True)
    assert (addon.compat.left_handle(made), addon.compat.right_handle(made)) == (11, 15)
    assert addon.compat.content_start(made) == 10
    files = list(addon.strips.media(made))
    assert len(files) == FRAMES and files[0].parent.parent == project.folder / "fatezero"
    assert made.directory.startswith("//")
    for frame, path in enumerate(files):
        grey = read_image(path)[..., 0]
        assert grey.shape == (HEIGHT, WIDTH)
        assert np.abs(grey - bilinear(values(1, frame), (WIDTH, HEIGHT))).max() <= 2
        assert grey.max() > 200


def test_a_hard_mask_has_the_threshold_in_it(addon, project, strip):
    view = addon.preview.settings.view()
    view.style, view.threshold = "HARD", 0.5
    try:
        add(number=0, strip="clip")
    finally:
        view.style = "SOFT"
    grey = read_image(next(addon.strips.media(project.strips["clip a Mask"])))[..., 0]
    full = bilinear(values(0, 0), (WIDTH, HEIGHT))
    assert (grey[full > 130] == 255).all() and (grey[full < 125] == 0).all() and set(np.unique(grey)) == {0, 255}
    assert 0 < (grey == 255).sum() < grey.size / 4


def test_masks_of_some_frames_are_shown_longer(addon, project, strip):
    shutil.rmtree(addon.folders.masks_folder() / "job")
    write_set(addon, addon.strips.describe(project.scene, strip), count=2, step=2)
    add(number=0, strip="clip")
    names = [element.filename for element in project.strips["clip a Mask"].elements]
    assert names == ["00001.png", "00001.png", "00002.png", "00002.png"]


def test_over_a_result(addon, project, strip):
    made = result(addon, project, addon.strips.describe(project.scene, strip), "job")
    add(number=2, strip=made.name)
    mask = project.strips[f"{made.name} ball Mask"]
    assert mask.channel == 3
    assert addon.compat.content_start(mask) == addon.compat.content_start(made)


def test_blenders_mask_modifier_takes_it(addon, project, strip):
    """With the strip as its mask, a picture is there only where the mask is."""
    view = addon.preview.settings.view()
    view.style, view.threshold = "HARD", 0.5
    try:
        add(number=1, strip="clip")
    finally:
        view.style = "SOFT"
    project.scene.view_settings.view_transform = "Standard"
    modifier = add_modifier(strip, "mask", "MASK")
    modifier.input_mask_type, modifier.input_mask_strip = "STRIP", project.strips["clip red Mask"]
    pixels = array(addon.renders.before("Scene", 12, frozenset(), 100))
    taken = bilinear(values(1, 2), (WIDTH, HEIGHT))
    given = random_frames(FRAMES, (WIDTH, HEIGHT), False, 1)[2][..., :3]
    assert np.array_equal(pixels[taken > 130], given[taken > 130]) and (pixels[taken < 125] == 0).all()
    assert 20 < (taken > 130).sum() < taken.size / 4


def test_the_listed_strip_is_taken_where_none_is_named(addon, project, strip):
    add(number=0)
    assert "clip a Mask" in project.strips


def test_what_is_in_the_way_is_said(addon, project, strip):
    def refused(**names) -> str:
        with pytest.raises(RuntimeError) as error:
            bpy.ops.fatezero.add_mask_strip(mask_set="job", strip="clip", **names)
        return str(error.value)

    assert "no longer there" in refused(number=7)
    (addon.folders.masks_folder() / "job" / "w00_00003.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "cannot be shown" in refused(number=0)
    assert not (project.folder / "fatezero").exists()
    for channel in project.editor.channels[2:]:
        channel.lock = True
    assert "no free channel" in refused(number=1)
    assert not (project.folder / "fatezero").exists()


@pytest.fixture
def writing(addon, project, strip):
    """The operator as it is with a window, which there is none of here, with the first mask written."""
    of_blender = addon.operators.masks.FATEZERO_OT_add_mask_strip
    names = ("modal", "cancel", "_make", "_insert", "_end")
    operator = type("Operator", (), {name: vars(of_blender)[name] for name in names})()
    timers = ["the operator's"]
    manager = SimpleNamespace(
        event_timer_remove=timers.remove, progress_update=lambda _: None, progress_end=lambda: None
    )
    operator.context, operator.timers, operator.told = SimpleNamespace(window_manager=manager), timers, []
    operator.report = lambda _, words: operator.told.append(words)
    operator.mask_set, operator.strip, operator.number = "job", "clip", 1
    operator._timer, operator._making = timers[0], operator._make(bpy.context)
    operator.next = lambda: operator.modal(operator.context, SimpleNamespace(type="TIMER"))
    assert operator.next() == {"RUNNING_MODAL"}
    return operator


def test_it_waits_while_blender_renders(addon, project, writing, monkeypatch):
    monkeypatch.setattr(addon.documents, "occupied", lambda: True)
    before = project.result_files()
    assert writing.next() == {"PASS_THROUGH"} and project.result_files() == before
    monkeypatch.undo()
    while writing.timers:
        writing.next()
    assert "clip red Mask" in project.strips


def test_half_a_strip_does_not_stay_where_something_unforeseen_happens(addon, project, writing, monkeypatch):
    def frame(*_):
        raise RuntimeError("a bolt from the blue")

    monkeypatch.setattr(addon.renders, "frame", frame)
    assert writing.next() == {"CANCELLED"}
    assert writing.timers == [] and "a bolt from the blue" in writing.told[0]
    assert not (project.folder / "fatezero").exists()
