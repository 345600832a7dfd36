"""Mask sets are found for the strips that they are of, at the frames that those show."""

from __future__ import annotations

import os
import shutil

import bpy
import pytest

from tests.blender_addon.conftest import FRAMES, move
from tests.blender_addon.masks import write_set


@pytest.fixture
def strip(addon, project):
    """A strip from frame 10 on; whatever sets there are for it go afterwards."""
    yield project.image_strip()
    shutil.rmtree(addon.folders.masks_folder())


@pytest.fixture
def source(addon, project, strip):
    return addon.strips.describe(project.scene, strip)


def result(addon, project, source, job_id: str):
    """A strip that the job made of the source."""
    folder = project.folder / "media" / "clip"
    origin = addon.reimport.Origin(
        job_id=job_id,
        source="a",
        target="b",
        settings="{}",
        model="m",
        engine="1",
        protocol=1,
        strip=source.name,
        source_digest="d",
    )
    return project.strips[addon.reimport.insert(source, sorted(folder.iterdir()), origin)]


def test_a_set_is_read_as_it_was_written(addon, project, strip, source):
    folder = write_set(addon, source)
    (found,) = addon.mask_sets.all()
    assert (found.job_id, found.source) == ("job", source)
    assert [(word.word, word.index, word.kind) for word in found.words] == [
        ("a", 0, "word"), ("red", 1, "word"), ("ball", 2, "word"),
    ]  # fmt: skip
    assert found.path(1, 0) == folder / "w01_00001.png" and found.path(2, 5) == folder / "w02_00006.png"
    assert found.path(0, -1) is None and found.path(0, FRAMES) is None
    assert addon.mask_sets.all()[0] is found  # it is not read anew


def test_some_frames_only(addon, source):
    folder = write_set(addon, source, count=2, first=1, step=2)
    (found,) = addon.mask_sets.all()
    paths = [found.path(0, frame) for frame in range(FRAMES)]
    one, two = folder / "w00_00001.png", folder / "w00_00002.png"
    assert paths == [None, one, one, two, two, None]


def test_newest_first_and_gone_when_removed(addon, source):
    for number, name in enumerate(("older", "newer")):
        folder = write_set(addon, source, name)
        os.utime(folder / "masks.json", (1000 + number, 1000 + number))
    assert [found.job_id for found in addon.mask_sets.all()] == ["newer", "older"]
    shutil.rmtree(folder)
    assert [found.job_id for found in addon.mask_sets.all()] == ["older"]


@pytest.mark.parametrize("damage", ["cut", "other files", "elsewhere", "unfinished"])
def test_damaged_sets_are_left_out(addon, source, damage):
    write_set(addon, source, "whole")
    folder = write_set(addon, source, "damaged")
    index = folder / "masks.json"
    if damage == "cut":
        index.write_text(index.read_text()[:-20])
    elif damage == "other files":
        index.write_text(index.read_text().replace('"w01_00001.png", ', ""))
    elif damage == "elsewhere":
        index.write_text(index.read_text().replace("w01_00001.png", "../w01_00001.png"))
    else:
        folder.rename(folder.with_name(".damaged.part"))
    assert [found.job_id for found in addon.mask_sets.all()] == ["whole"]


def test_the_strip_may_move_and_be_trimmed(addon, project, strip, source):
    write_set(addon, source)
    strip.name = "renamed"
    (found,) = addon.mask_sets.for_strip(project.scene, strip)
    frames = lambda: [addon.mask_sets.clip_frame(found, strip, frame) for frame in (9, 10, 12, 15, 16, 40, 42)]
    assert frames() == [None, 0, 2, 5, None, None, None]
    move(strip, 30)
    addon.compat.set_handles(strip, 42, 45)
    strip.name = "clip"
    (found,) = addon.mask_sets.for_strip(project.scene, strip)
    assert frames() == [None, None, None, None, None, None, 2]


def test_other_strips_have_none(addon, project, strip, source):
    write_set(addon, source)
    assert addon.mask_sets.for_strip(project.scene, project.image_strip("other", channel=2)) == []
    project.strips.remove(strip)
    other = bpy.data.scenes.new("another")
    other.sequence_editor_create()
    assert addon.mask_sets._by_strip(project.scene) == {} == addon.mask_sets._by_strip(other)


def test_a_result_has_its_own_and_its_sources(addon, project, strip, source):
    for job_id in ("other edit", "edit", "survey"):
        write_set(addon, source, job_id, kinds=["word"] if job_id == "survey" else ["blend"])
    made = result(addon, project, source, "edit")
    found = [each.job_id for each in addon.mask_sets.for_strip(project.scene, made)]
    assert found[0] == "edit" and set(found) == {"edit", "other edit", "survey"}
    move(made, 5)  # its masks go with it, wherever its source is
    assert addon.mask_sets.clip_frame(addon.mask_sets.for_strip(project.scene, made)[0], made, 17) == 2
