"""Many strips at once: what is planned, what is left out and why, and that it comes out right."""

from __future__ import annotations

import time

import bpy
import pytest

from tests.blender_addon.conftest import random_frames, stop_engine, tick_until, write_png

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def clips(project):
    """Three strips of two frames, selected: a and b in channel 1, c in channel 4."""
    made = [
        project.image_strip(name, count=2, start=start, channel=channel, seed=start)
        for name, start, channel in (("a", 10, 1), ("b", 20, 1), ("c", 10, 4))
    ]
    for strip in made:
        strip.select = True
    project.prompts(steps=2)
    project.save()
    return made


def names(plan) -> list[str]:
    return [making.source.name for making in plan.todo]


def reasons(plan) -> list[str]:
    return [str(trouble) for _, trouble in plan.skipped]


def test_all_selected_and_then_only_what_changed(addon, project, session, clips):
    assert bpy.ops.fatezero.batch(what="EDIT", scope="SELECTED") == {"FINISHED"}
    assert addon.batches.current.summary() == "3 of 3 done"
    results = [project.strips[f"{name} FateZero"] for name in "abc"]
    assert [strip.channel for strip in results] == [2, 2, 5]
    for scope in ("SELECTED", "SCENE", "ALL"):
        assert bpy.ops.fatezero.batch(what="EDIT", scope=scope) == {"CANCELLED"}
        assert bpy.ops.fatezero.batch(what="AGAIN", scope=scope) == {"CANCELLED"}

    for path, pixels in zip((project.folder / "media" / "b").iterdir(), random_frames(2, (64, 48), False, 99)):
        write_png(path, pixels)
    plan = addon.plans.renders(addon.plans.strips_of(project.scene, "ALL"))
    assert names(plan) == ["b"] and plan.todo[0].why == "source"
    assert reasons(plan) == ["'a FateZero' is up to date.", "'c FateZero' is up to date."]
    before = results[1].directory
    assert bpy.ops.fatezero.batch(what="EDIT", scope="SCENE") == {"FINISHED"}  # in place, not beside
    assert len(project.strips) == 6 and results[1].directory != before
    assert len(addon.versions.of(results[1])) == 2


def test_a_channel(addon, project, clips):
    plan = addon.plans.edits(addon.plans.strips_of(project.scene, "CHANNEL", 1), True)
    assert names(plan) == ["a", "b"] and plan.pictures == 4


def test_what_is_left_out_says_why(addon, project, session, clips):
    project.effect("TEXT", "title", 8, 10, 20)
    (project.folder / "media" / "a" / "001.png").unlink()
    plan = addon.plans.edits(addon.plans.strips_of(project.scene, "SCENE"), True)
    assert names(plan) == ["c", "b"]
    told = sorted(reasons(plan))
    assert (
        told[0]
        == "'title' is a text strip, which has no picture to edit. Select a movie, image or scene strip instead."
    )
    assert told[1].startswith("The file ") and "of 'a' is missing" in told[1]


def test_one_that_fails_does_not_stop_the_others(addon, project, session, clips):
    plan = addon.plans.edits(addon.plans.strips_of(project.scene, "SCENE"), True)
    batch = addon.batches.begin(plan)
    project.strips.remove(clips[1])
    assert "exporting" in {job.state for job in batch.jobs} and batch.under_way
    addon.jobs.wait(300)
    assert batch.summary() == "2 of 3 done, 1 failed"
    assert [name for name, _ in batch.troubles] == ["b"]
    assert "was deleted before all of it was exported" in str(batch.troubles[0][1])


def test_what_is_under_way_is_not_begun_twice(addon, project, session, clips):
    addon.batches.begin(addon.plans.edits(clips, True))
    plan = addon.plans.edits(clips, True)
    assert names(plan) == [] and reasons(plan)[0] == "'a' is being edited just so."
    addon.jobs.wait(300)


def test_another_part_is_another_edit(addon, project, session, clips):
    bpy.ops.fatezero.batch(what="EDIT", scope="CHANNEL", channel=4)
    work = project.scene.fatezero_work
    assert names(addon.plans.edits([clips[2]], True)) == []
    work.frames, work.first, work.last = "RANGE", 11, 11
    (making,) = addon.plans.edits([clips[2]], True).todo
    assert (making.why, making.source.first, making.source.count) == ("new", 11, 1)


def test_variations_side_by_side(addon, project, session, clips):
    project.select(clips[0])
    with pytest.raises(RuntimeError, match="The list of target prompts is empty"):
        bpy.ops.fatezero.batch(what="VARIATIONS")
    for colour in ("blue", "green", "white"):
        bpy.ops.fatezero.add_target()
        project.scene.fatezero_work.targets[-1].text = f"a {colour} ball"
    bpy.ops.fatezero.remove_target()
    assert bpy.ops.fatezero.batch(what="VARIATIONS") == {"FINISHED"}
    made = {strip.channel: addon.reimport.origin_of(strip).target for strip in project.strips if "fatezero" in strip}
    assert made == {2: "a blue ball", 3: "a green ball"}
    weights = [
        addon.again.settings_of(addon.reimport.origin_of(s)).word_weights for s in project.strips if "fatezero" in s
    ]
    assert all("white" not in each for each in weights)
    assert bpy.ops.fatezero.batch(what="VARIATIONS") == {"CANCELLED"}


def test_results_are_edited_only_where_they_are_meant(addon, project, session, clips):
    bpy.ops.fatezero.batch(what="EDIT", scope="CHANNEL", channel=4)
    result = project.strips["c FateZero"]
    assert names(addon.plans.edits([*clips, result], False)) == ["a", "b", "c"]
    assert names(addon.plans.edits([result], True)) == ["c FateZero"]


def test_estimates_are_learned(addon, project, session, clips):
    addon.folders.timings_file().unlink(missing_ok=True)
    plan = addon.plans.edits(clips, True)
    assert plan.estimate().seconds is None and plan.estimate().size > 0
    bpy.ops.fatezero.batch(what="EDIT", scope="CHANNEL", channel=4)
    one = addon.plans.edits(clips[:1], True).estimate()
    two = addon.plans.edits(clips[:2], True).estimate()
    assert 0 < one.seconds < two.seconds < 2 * one.seconds + 1e-6 and two.size == pytest.approx(2 * one.size)
    project.prompts(quality="DRAFT")
    assert addon.plans.edits(clips[:1], True).estimate().seconds is None, "drafts are judged by drafts"
    project.prompts(quality="FULL")
    assert addon.plans.edits(clips[:1], True).estimate() == one
    cost = addon.panels.figures.cost(8, 240, addon.estimates.Estimate(170.0, 1.2e9))
    assert cost == "8 of 240 frames, about 3 min, 1.2 GB"
    addon.folders.timings_file().write_bytes(b"no json")
    assert plan.estimate().seconds is None


def test_five_hundred_strips_are_planned_fast(addon, project):
    paths = sorted((project.folder / "media" / "clip").iterdir()) if project.image_strip(count=2) else []
    for number in range(499):
        project.add_images(paths, f"clip {number}", channel=1, start=20 + 3 * number)
    project.prompts()
    began = time.perf_counter()
    plan = addon.plans.edits(addon.plans.strips_of(project.scene, "SCENE"), True)
    planned = time.perf_counter() - began
    print(f"500 strips planned in {planned:.3f} s")
    assert len(plan.todo) == 500 and planned < 5.0
    strip = project.strips["clip 7"]
    source = addon.strips.describe(project.scene, strip)
    began = time.perf_counter()
    for strip in list(project.strips):
        assert addon.fingerprint.of(project.scene, strip, source)
    print(f"500 fingerprints in {time.perf_counter() - began:.3f} s")


def test_more_than_the_engine_takes_wait_here(addon, project, session, clips, monkeypatch):
    monkeypatch.setattr(addon.session, "MOST_AT_ENGINE", 1)
    batch = addon.batches.begin(addon.plans.edits(clips, True))
    tick_until(session, lambda: batch.jobs[0].state in ("queued", "running"))
    assert [job.state for job in batch.jobs[1:]] == ["exporting", "exporting"]
    addon.jobs.wait(300)
    assert batch.summary() == "3 of 3 done"


def test_a_batch_without_an_engine(addon, project, session, clips, monkeypatch):
    stop_engine(addon)
    monkeypatch.delenv("FATEZERO_ENGINE_PYTHON")
    batch = addon.batches.begin(addon.plans.edits(clips, True))
    assert (batch.jobs, batch.summary()) == ([], "0 of 3 done, 3 failed")
    assert "The engine is not installed." in str(batch.troubles[0][1])
