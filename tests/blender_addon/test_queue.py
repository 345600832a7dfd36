"""The list of jobs: order, all at once, the way to the strip, pictures, and who is told of the end."""

from __future__ import annotations

import bpy
import pytest

from tests.blender_addon.conftest import reach, tick_until

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def begin(addon, project):
    def begin(strip, steps: int = 900, target: str = "a blue ball"):
        project.select(strip)
        project.prompts(steps=steps, target=target)
        project.save()
        return addon.operators.edit.begin(bpy.context)

    return begin


@pytest.fixture
def waiting(addon, project, session, begin):
    """Four edits of one strip: the first runs, the others wait at the engine."""
    strip = project.image_strip(count=1)
    jobs = [begin(strip, target=f"a {colour} ball") for colour in ("blue", "green", "white", "black")]
    tick_until(session, lambda: jobs[0].state == "running" and [job.ahead for job in jobs[1:]] == [1, 2, 3])
    yield jobs
    for job in session.jobs:
        if job.under_way:
            session.cancel(job)
    tick_until(session, lambda: not any(job.under_way for job in session.jobs))


def test_those_that_wait_change_places(addon, session, waiting):
    first, second, third, fourth = waiting
    assert not addon.operators.order.neighbour(second, "UP")  # what runs is not overtaken
    assert bpy.ops.fatezero.move_job(job=fourth.id, direction="UP") == {"FINISHED"}
    assert session.jobs == [first, second, fourth, third]
    tick_until(session, lambda: (second.ahead, fourth.ahead, third.ahead) == (1, 2, 3))
    assert bpy.ops.fatezero.move_job(job=second.id, direction="DOWN") == {"FINISHED"}
    tick_until(session, lambda: (fourth.ahead, second.ahead, third.ahead) == (1, 2, 3))
    session.cancel(first)
    tick_until(session, lambda: fourth.state == "running")
    order = [record.job_id for record in addon.records.all_in(addon.folders.records_folder())]
    assert order[-3:] == [fourth.id, second.id, third.id]  # so they are found again


def test_those_that_are_not_exported_change_places(addon, project, session, begin):
    strip = project.image_strip(count=1)
    one, two = begin(strip, 1), begin(strip, 1)
    assert bpy.ops.fatezero.move_job(job=two.id, direction="UP") == {"FINISHED"}
    assert session.jobs == [two, one] and two.begun < one.begun
    addon.jobs.wait(300)
    assert [project.strips[job.result].channel for job in (two, one)] == [2, 3]


def test_pause_and_resume_all_and_clear(addon, project, session, waiting):
    assert bpy.ops.fatezero.pause_all() == {"FINISHED"}
    tick_until(session, lambda: all(job.state == "paused" for job in waiting))
    assert not bpy.ops.fatezero.pause_all.poll() and not bpy.ops.fatezero.clear_finished.poll()
    assert bpy.ops.fatezero.resume_all() == {"FINISHED"}
    tick_until(session, lambda: sum(job.state in ("queued", "running") for job in waiting) == 4)
    session.cancel(waiting[3])
    tick_until(session, lambda: waiting[3].state == "cancelled")
    assert bpy.ops.fatezero.clear_finished() == {"FINISHED"}
    assert session.jobs == waiting[:3]


def test_jump_to_the_source_and_then_to_the_result(addon, project, session, begin):
    strip = project.image_strip(count=2, start=40)
    job = begin(strip, steps=1)
    strip.select = False
    project.scene.frame_current = 1
    assert bpy.ops.fatezero.jump_to_strip(job=job.id) == {"FINISHED"}
    assert strip.select and project.editor.active_strip == strip and project.scene.frame_current == 40
    reach(session, "done")
    assert bpy.ops.fatezero.jump_to_strip(job=job.id) == {"FINISHED"}
    assert project.editor.active_strip.name == job.result and not strip.select
    project.strips.remove(project.strips[job.result])
    project.strips.remove(strip)
    with pytest.raises(RuntimeError, match="'clip' is no longer in this file"):
        bpy.ops.fatezero.jump_to_strip(job=job.id)


def test_pictures_come_and_go_with_their_jobs(addon, project, session, begin):
    job = begin(project.image_strip(count=1), steps=1)
    assert addon.thumbnails.icon(job.id) == 0
    reach(session, "sending", "queued", "running")
    kept = addon.folders.thumbnails_folder() / f"{job.id}.png"
    exported = kept.read_bytes()
    addon.thumbnails.icon(job.id)  # without a window there are no icons, but the picture is loaded
    assert job.id in addon.thumbnails._pictures
    reach(session, "done")
    assert kept.read_bytes() == (job.folder / "frames" / "00001.png").read_bytes() != exported
    bpy.ops.fatezero.clear_finished()
    assert not kept.exists() and job.id not in addon.thumbnails._pictures


def test_those_who_want_to_know_are_told_once(addon, project, session, begin):
    told = []
    addon.finished.listeners.append(told.append)
    try:
        strip = project.image_strip(count=1)
        done, ended = begin(strip, steps=1), begin(strip)
        tick_until(session, lambda: done.state == "done")
        session.cancel(ended)
        tick_until(session, lambda: ended.state == "cancelled")
        session.tick()
        assert told == [done, ended]
    finally:
        addon.finished.listeners.remove(told.append)


def test_a_long_list_shows_what_is_under_way_first(addon, project, session, begin):
    job = begin(project.image_strip(count=1), steps=1)
    addon.jobs.wait(300)
    made = [job] * 30 + [begin(project.strips["clip"], steps=1)]
    assert addon.panels.queue.choose(made)[-1] == made[-1]
    assert len({id(job) for job in addon.panels.queue.choose(made)}) == 2
    session.cancel(made[-1])


def test_prompts_are_remembered(addon, project, begin, session):
    book = addon.prompt_book
    addon.folders.prompts_file().unlink(missing_ok=True)
    strip = project.image_strip(count=1)
    for target in ("a green ball", "a blue ball", "a green ball"):
        session.cancel(begin(strip, target=target))
    assert [pair.target for pair in book.read().recent] == ["a green ball", "a blue ball"]
    bpy.ops.fatezero.favourite_prompts()
    assert [pair.target for pair in book.read().favourites] == ["a green ball"]
    assert bpy.ops.fatezero.use_prompts(source="a cat", target="a dog") == {"FINISHED"}
    assert (project.scene.fatezero.source, project.scene.fatezero.target) == ("a cat", "a dog")
    bpy.ops.fatezero.forget_prompts()
    assert book.read().recent == () and len(book.read().favourites) == 1
    for number in range(40):
        book.used("x" * 10, str(number))
    book.used("x" * 3000, "too long")
    assert len(book.read().recent) == 30 and book.read().recent[0].target == "39"
    addon.folders.prompts_file().write_bytes(b"\xff no json")
    assert book.read() == book.Book()
    addon.folders.prompts_file().unlink()
