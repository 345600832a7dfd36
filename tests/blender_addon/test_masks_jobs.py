"""Masks jobs, previews and own masks from strip to engine and back, through the real engine process."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import HEIGHT, WIDTH, new_file, reach, read_image, tick_until, write_png

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    yield addon.jobs.session
    for folder in addon.folders.masks_folder().iterdir():
        assert not folder.name.startswith("."), "nothing unfinished is left"


def source_of(addon, project, strip):
    project.select(strip)
    project.save()
    return addon.strips.choose(bpy.context)


def settings_of(project, **changes):
    return project.scene.fatezero.as_edit(**changes)


def test_a_survey_leaves_a_mask_set_and_no_strip(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=3))
    before = project.snapshot()
    job = session.survey(source, settings_of(project))
    assert (job.task, job.steps) == ("masks", 3)
    addon.jobs.wait(300)
    assert (job.state, job.trouble, job.result) == ("done", None, "")
    assert project.snapshot() == before and not (project.folder / "fatezero").exists()
    assert [seen.word for seen in job.words] == ["a", "red", "ball"]
    assert job.mask_set == addon.folders.masks_folder() / job.id
    index = json.loads((job.mask_set / "masks.json").read_text())
    words = index.pop("words")
    digest, described = index.pop("digest"), index.pop("source")
    assert index == {"prompt": "a red ball", "frames": 3, "first": 0, "step": 1} and len(digest) == 64
    assert (described["name"], described["scene"], described["count"]) == (source.name, "Scene", 3)
    assert [(word["word"], word["index"], word["kind"]) for word in words] == [
        ("a", 0, "word"), ("red", 1, "word"), ("ball", 2, "word")
    ]  # fmt: skip
    files = [name for word in words for name in word["files"]]
    assert sorted(path.name for path in job.mask_set.iterdir()) == sorted(["masks.json", *files]) and len(files) == 9
    for name in files:
        pixels = read_image(job.mask_set / name)
        assert pixels.shape[1] / pixels.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.2)
        assert pixels[..., 0].max() > 200 and np.array_equal(pixels[..., 0], pixels[..., 1])


def test_a_project_that_was_never_saved_can_be_surveyed(addon, project, session):
    strip = project.image_strip(count=1)
    project.save()
    path = strip.elements[0].filename
    new_file()
    scene = bpy.data.scenes["Scene"]
    scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
    scene.sequence_editor_create()
    project.select(project.add_images([project.folder / "media" / "clip" / path]))
    settings = project.scene.fatezero
    settings.source = settings.target = "a red ball"
    job = session.survey(addon.strips.choose(bpy.context), settings.as_edit(steps=2))
    addon.jobs.wait(300)
    assert (job.state, job.trouble) == ("done", None) and (job.mask_set / "masks.json").is_file()


def test_an_edit_leaves_the_masks_of_its_words_and_the_one_that_it_used(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=2))
    words = dict(mask_words=("red",), blend_source=("ball",), blend_target=("ball",))
    job = session.edit(source, settings_of(project, **words))
    addon.jobs.wait(300)
    assert (job.state, job.trouble) == ("done", None) and job.result
    index = json.loads((job.mask_set / "masks.json").read_text())
    assert [(word["word"], word["kind"]) for word in index["words"]] == [("red", "word"), ("ball", "blend")]
    assert {path.split("/")[1] for path in project.result_files() if "/" in path} == {"frames", "masks"}


def test_a_plain_edit_leaves_none(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=1))
    job = session.edit(source, settings_of(project))
    addon.jobs.wait(300)
    assert job.state == "done" and job.mask_set is None
    assert not (addon.folders.masks_folder() / job.id).exists()


def test_a_survey_goes_on_in_the_next_session(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=2))
    job = session.survey(source, settings_of(project, steps=60))
    reach(session, "running")
    assert job.record().task == "masks"
    session.close()
    session.look()
    tick_until(session, lambda: session.jobs)
    found = session.job
    assert found is not job and (found.id, found.task) == (job.id, "masks")
    addon.jobs.wait(300)
    assert (found.state, found.trouble) == ("done", None)
    assert json.loads((found.mask_set / "masks.json").read_text())["prompt"] == "a red ball"


def test_a_cancelled_survey_leaves_nothing(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=2))
    job = session.survey(source, settings_of(project, steps=400))
    reach(session, "running")
    session.cancel(job)
    tick_until(session, lambda: job.final)
    assert job.state == "cancelled" and not (addon.folders.masks_folder() / job.id).exists()


def test_a_running_edit_shows_what_it_comes_to(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=4))
    job = session.edit(source, settings_of(project, steps=200))
    seen = []
    tick_until(session, lambda: job.final or (job.preview and seen.append(job.preview)) or seen)
    assert seen, (job.state, job.trouble)
    preview = seen[0]
    assert (preview.steps, preview.frames) == (200, [0, 1, 2, 3]) and 1 <= preview.step <= 200
    assert len(preview.pictures) == 4
    path = project.folder / "preview.png"
    path.write_bytes(preview.pictures[0])
    assert read_image(path).shape[2] == 4 and max(read_image(path).shape) <= 256
    session.cancel(job)
    tick_until(session, lambda: job.final)
    assert job.preview is None


class HalfMasks:
    """Masks as a user's: white in the left half."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count, self.frames = folder, count, []
        folder.mkdir()

    @property
    def complete(self) -> bool:
        return len(self.frames) == self.count

    def render_next(self) -> None:
        pixels = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
        pixels[:, WIDTH // 2 :, :3] = 0
        self.frames.append(self.folder / f"{len(self.frames):05}.png")
        write_png(self.frames[-1], pixels)

    def discard(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def test_own_masks_go_with_the_frames_and_limit_the_edit(addon, project, session):
    strip = project.image_strip(count=3)
    source = source_of(addon, project, strip)
    masks = HalfMasks(project.folder / "own", 3)
    settings = settings_of(project, own_mask="limit", keep_background=True)
    job = session.edit(source, settings, own_masks=masks)
    assert job.steps == 6
    reach(session, "sending", "queued", "running", "fetching", "done")
    addon.jobs.wait(300)
    assert (job.state, job.trouble) == ("done", None)
    assert not masks.folder.exists(), "discarded with the job's frames"
    result = project.all_strips[job.result]
    for element, name in zip(result.elements, sorted(os.listdir(project.folder / "media" / "clip"))):
        edited = read_image(Path(bpy.path.abspath(result.directory)) / element.filename)
        before = read_image(project.folder / "media" / "clip" / name)
        assert np.array_equal(edited[:, WIDTH // 2 :], before[:, WIDTH // 2 :])
        assert not np.array_equal(edited[:, : WIDTH // 2], before[:, : WIDTH // 2])
    index = json.loads((job.mask_set / "masks.json").read_text())
    assert [(word["word"], word["kind"]) for word in index["words"]] == [("", "blend")]


def test_an_edit_that_is_cancelled_while_it_is_exported_drops_its_masks(addon, project, session):
    source = source_of(addon, project, project.image_strip(count=3))
    masks = HalfMasks(project.folder / "own", 3)
    job = session.edit(source, settings_of(project, own_mask="replace"), own_masks=masks)
    session.cancel(job)
    assert job.state == "cancelled" and not masks.folder.exists()


def test_the_oldest_sets_make_room_and_what_was_abandoned_goes(addon):
    files = addon.mask_files
    with tempfile.TemporaryDirectory() as name:
        sets = Path(name)
        for number in range(1, 6):
            (sets / f"job{number}").mkdir()
            index = sets / f"job{number}" / "masks.json"
            index.write_text("{}")
            os.utime(index, (number, number))
        for part, age in ((".old.part", files.ABANDONED_SECONDS + 60), (".new.part", 60)):
            (sets / part).mkdir()
            os.utime(sets / part, (time.time() - age,) * 2)
        files.prune(sets, most=2)
        assert sorted(path.name for path in sets.iterdir()) == [".new.part", "job4", "job5"]
