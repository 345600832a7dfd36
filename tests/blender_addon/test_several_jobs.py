"""Several jobs at once, and strips that change while theirs runs."""

from __future__ import annotations

import os
import shutil
import threading
import time

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, in_a_window, reach, read_image, tick_until, wait_until

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def begin(addon, project):
    """Begin to edit a strip, as the button does."""

    def begin(strip, steps: int = 1, target: str = "a blue ball"):
        project.select(strip)
        project.prompts(steps=steps, target=target)
        project.save()
        assert bpy.ops.fatezero.edit_strip.poll()
        return addon.operators.edit.begin(bpy.context)

    return begin


@pytest.fixture
def strip(project):
    return project.image_strip(count=FRAMES)


def where(addon, strip) -> tuple[int, int, int]:
    return strip.channel, addon.compat.left_handle(strip), addon.compat.right_handle(strip)


def test_each_lands_over_its_own_strip(addon, project, session, begin):
    names = ("a", "b", "c")
    strips = [
        project.image_strip(name, count=2, start=10 + 20 * number, channel=1 + number, seed=number)
        for number, name in enumerate(names)
    ]
    jobs = [begin(strip, target=f"a {colour} ball") for strip, colour in zip(strips, ("blue", "green", "white"))]
    assert [job.state for job in jobs] == ["exporting"] * 3
    assert session.jobs == jobs
    addon.jobs.wait(300)
    assert [(job.state, job.trouble) for job in jobs] == [("done", None)] * 3
    for job, strip in zip(jobs, strips):
        channel, left, right = where(addon, strip)
        assert where(addon, project.strips[job.result]) == (channel + 1, left, right)
        assert addon.reimport.origin_of(project.strips[job.result]).target == job.settings.target
    assert len(list((project.folder / "fatezero").iterdir())) == 3


def test_twice_the_same_strip(addon, project, session, begin, strip):
    jobs = [begin(strip, target=target) for target in ("a blue ball", "a green ball")]
    addon.jobs.wait(300)
    assert [project.strips[job.result].channel for job in jobs] == [2, 3]


def test_they_wait_in_line_and_are_held_up_and_ended_one_by_one(addon, project, session, begin, strip):
    first, second, third = [begin(strip, steps=900) for _ in range(3)]
    tick_until(session, lambda: first.state == "running" and third.ahead == 2)
    assert (second.ahead, second.state) == (1, "queued")
    assert "2 before it" in addon.panels.queue.progress_text(third, session)

    bpy.ops.fatezero.pause(job=first.id)
    tick_until(session, lambda: first.state == "paused" and second.state == "running")
    bpy.ops.fatezero.cancel(job=second.id)
    tick_until(session, lambda: second.state == "cancelled" and third.state == "running")
    assert first.state == "paused"
    bpy.ops.fatezero.cancel(job=third.id)
    bpy.ops.fatezero.resume(job=first.id)
    tick_until(session, lambda: third.state == "cancelled" and first.state == "running")
    assert session.trouble is None
    bpy.ops.fatezero.cancel()
    tick_until(session, lambda: first.state == "cancelled")


def test_one_that_fails_does_not_hold_up_the_others(addon, project, session, begin, strip, tmp_path):
    project.prompts(model_folder=str(tmp_path / "no checkpoint"))
    wrong = begin(strip)
    project.prompts(model="BUILTIN")
    right = begin(strip)
    addon.jobs.wait(300)
    assert (wrong.state, right.state) == ("failed", "done")
    assert "no checkpoint" in str(wrong.trouble) and right.trouble is None
    assert session.trouble is wrong.trouble
    bpy.ops.fatezero.dismiss(job=wrong.id)
    assert session.jobs == [right] and session.trouble is None


def test_one_that_the_engine_does_not_understand_does_not_end_the_connection(
    addon, project, session, begin, strip, monkeypatch
):
    running = begin(strip, steps=900)
    tick_until(session, lambda: running.state == "running")
    connection = session.client.link.connection
    project.scene.render.fps = 2400
    with monkeypatch.context() as patch:
        patch.setattr(getattr(addon, "protocol.limits"), "MAX_FPS", 10_000)
        wrong = begin(strip)
        tick_until(session, lambda: wrong.final)
    assert wrong.state == "failed" and "cannot be understood" in str(wrong.trouble)
    assert session.client.link.connection is connection and running.state == "running"
    session.cancel(running)
    right = begin(strip)  # so fast a clip is sent with the wire's highest rate
    tick_until(session, lambda: right.final)
    assert (right.state, right.trouble) == ("done", None)


def test_many_jobs_do_not_hold_up_what_is_asked_of_one(addon, project, session, begin, strip, monkeypatch):
    """Over a line on which each answer takes a while."""
    job = begin(strip, steps=900)
    tick_until(session, lambda: job.state == "running")
    frames, client = sorted((project.folder / "media" / "clip").iterdir()), session.client
    others = [f"one-of-many-{number}" for number in range(20)]
    for other in others:
        client.submit(addon.orders.Order(other, job.settings, frames, 24.0, "", "edit", [], None))
    wait_until(lambda: all(other in client._followed for other in others))
    connection, asked = client.link.connection, []
    ask, pause = connection.status, connection.pause

    def ask_slowly(job_id, **named):
        time.sleep(0.1)
        asked.append(job_id)
        return ask(job_id, **named)

    monkeypatch.setattr(connection, "status", ask_slowly)
    monkeypatch.setattr(connection, "pause", lambda job_id: (asked.append("pause"), pause(job_id))[1])
    wait_until(lambda: len(asked) > 1)
    before = len(asked)
    session.change(job, "pause")
    tick_until(session, lambda: "pause" in asked)
    assert asked.index("pause") - before <= 2, "it does not wait until all are asked for"
    asked.clear()
    wait_until(lambda: len(asked) > len(others))
    assert {*others, job.id} <= set(asked[: len(others) + 2]), "each has its turn"
    for other in others:
        client.cancel(other, None)
    session.cancel(job)
    tick_until(session, lambda: not client._followed)


@pytest.fixture
def crowded(addon, no_engine, tmp_path, monkeypatch):
    """The engine takes one job at a time."""
    program = tmp_path / "python"
    patched = "import runpy, sys, protocol.limits; protocol.limits.MAX_CLIENT_JOBS = 1; del sys.argv[:2]; "
    run = "runpy.run_module('engine', run_name='__main__', alter_sys=True)"
    program.write_text(f'#!/bin/bash\nexec {os.environ["FATEZERO_ENGINE_PYTHON"]} -c "{patched}{run}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("FATEZERO_ENGINE_PYTHON", str(program))
    monkeypatch.setattr(addon.tasks, "PUT_OFF", 0.5)


def test_what_the_engine_has_no_room_for_is_sent_later(addon, project, session, crowded, begin, strip):
    first = begin(strip, steps=900)
    tick_until(session, lambda: first.state == "running")
    second, third = begin(strip), begin(strip)
    troubles = []

    def look() -> bool:
        if second.trouble and second.trouble not in troubles:
            troubles.append(second.trouble)
        return len(troubles) > 2 and third.trouble

    tick_until(session, look, 60.0)
    assert (second.state, third.state) == ("sending", "sending")
    assert str(second.trouble) == (
        "1 jobs are waiting already. Wait for one to finish, or cancel one. "
        "The edit waits here, and is sent again every few seconds."
    )
    assert addon.batches.Batch([second]).troubles == [], "it has not failed"
    session.cancel(third)
    tick_until(session, lambda: third.state == "cancelled")
    session.cancel(first)
    tick_until(session, lambda: second.final)
    assert (second.state, second.trouble, session.trouble) == ("done", None, None)
    assert third.state == "cancelled"


def test_what_failed_can_be_tried_again(addon, project, session, begin, strip, checkpoint, tmp_path):
    """A checkpoint that breaks after its job was taken on, as on a disk that is unplugged."""
    before = begin(strip, steps=900)
    unplugged = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, unplugged)
    project.prompts(model_folder=str(unplugged))
    job = begin(strip)
    tick_until(session, lambda: job.at_engine)
    unplugged.rename(tmp_path / "elsewhere")
    session.cancel(before)
    reach(session, "failed")
    (tmp_path / "elsewhere").rename(unplugged)
    assert bpy.ops.fatezero.try_again() == {"FINISHED"}
    tick_until(session, lambda: job.state == "done")
    assert job.trouble is None and project.strips[job.result]


def test_a_script_waits_for_its_own_job_only(addon, project, session, begin):
    endless = begin(project.image_strip("endless", count=1, channel=1), steps=900)
    tick_until(session, lambda: endless.at_engine)
    bpy.ops.fatezero.pause(job=endless.id)
    project.prompts(steps=1)
    project.select(project.image_strip("quick", count=1, channel=5))
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    assert endless.under_way and session.job.state == "done"
    bpy.ops.fatezero.cancel(job=endless.id)
    tick_until(session, lambda: endless.state == "cancelled")


@pytest.mark.parametrize("cut", ["SOFT", "HARD"])
def test_a_strip_that_is_cut_meanwhile(addon, project, session, begin, strip, cut):
    """The result lands once: as long as what was exported, where the piece that kept the name has it."""
    job = begin(strip)
    reach(session, "running", "fetching")
    right = strip.split(frame=13, split_method=cut)
    assert (strip.name, addon.compat.left_handle(right)) == ("clip", 13)
    reach(session, "done")
    result = project.strips[job.result]
    assert where(addon, result) == (2, 10, 10 + FRAMES)
    assert sorted(project.strips.keys()) == sorted(["clip", right.name, result.name])


def test_a_strip_that_is_cut_and_whose_first_piece_is_moved(addon, project, session, begin, strip):
    job = begin(strip)
    reach(session, "running", "fetching")
    strip.split(frame=13, split_method="SOFT")
    start = "content_start" if hasattr(strip, "content_start") else "frame_start"
    strip.channel = 4
    setattr(strip, start, getattr(strip, start) + 100)
    reach(session, "done")
    assert where(addon, project.strips[job.result]) == (5, 110, 110 + FRAMES)


def test_a_strip_that_is_cut_and_whose_first_piece_is_deleted(addon, project, session, begin, strip):
    job = begin(strip)
    reach(session, "running", "fetching")
    strip.split(frame=13, split_method="SOFT")
    project.strips.remove(strip)
    reach(session, "done")
    result = project.strips[job.result]
    assert where(addon, result) == (2, 10, 10 + FRAMES)
    assert job.trouble is None
    first = read_image(job.folder / "frames" / result.elements[0].filename)
    assert np.asarray(first).shape[2] == 4


def test_what_ended_is_shown_until_it_is_dismissed(addon, project, session, begin, strip):
    jobs = [begin(strip), begin(strip)]
    addon.jobs.wait(300)
    assert bpy.ops.fatezero.dismiss(job=jobs[0].id) == {"FINISHED"}
    assert session.jobs == [jobs[1]]
    assert bpy.ops.fatezero.select_result(job=jobs[1].id) == {"FINISHED"}
    assert project.editor.active_strip.name == jobs[1].result
    assert bpy.ops.fatezero.dismiss() == {"FINISHED"}
    assert session.jobs == [] and not bpy.ops.fatezero.dismiss.poll()
    assert len(project.strips) == 3  # results stay


def test_no_thread_of_ours_runs_beside_what_must_be_alone(addon, project, session, begin, strip):
    """Blender up to 5.0 crashes if another thread runs Python while an operator runs under `temp_override`."""
    job, done = begin(strip, steps=900), []
    reach(session, "running")

    def alone() -> None:
        seen = session.client.events.qsize()
        time.sleep(0.5)  # a thread that ran would hear of the next step, and pass it on
        done.append(session.client.events.qsize() - seen)

    addon.jobs.when_alone(bpy.ops.sequencer.view_selected)  # which has no place here, and must not end the timer
    addon.jobs.when_alone(alone)
    tick_until(addon.jobs, lambda: done)
    assert done == [0]
    step = job.step
    tick_until(session, lambda: job.step > step)  # and the thread goes on
    session.cancel(job)
    tick_until(session, lambda: job.state == "cancelled")


def test_a_result_is_placed_and_undone_while_threads_of_others_run(addon, project, session, begin, strip):
    with in_a_window(addon):
        bpy.ops.ed.undo_push(message="before")
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            dict.fromkeys(map(str, range(50)))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(20):
            addon.undo.push_edited()
        job = begin(strip)
        tick_until(session, lambda: job.state == "done")
    finally:
        over.set()
        thread.join()
    assert job.result in project.strips
    with in_a_window(addon):
        bpy.ops.ed.undo()
    assert list(project.strips.keys()) == ["clip"]


def test_one_that_is_cancelled_before_its_strip_is_made_leaves_nothing(addon, project, session, begin, strip):
    job = begin(strip)
    reach(session, "fetching")
    wait_until(
        lambda: any((project.folder / "fatezero").glob("[!.]*"))
    )  # it has all arrived, and that is not heard yet
    assert bpy.ops.fatezero.cancel.poll() and bpy.ops.fatezero.cancel(job=job.id) == {"FINISHED"}
    tick_until(session, lambda: job.final)
    assert job.state == "cancelled" and list(project.strips.keys()) == ["clip"]
    assert not (project.folder / "fatezero").exists()
    other = begin(strip)  # and holds nothing up
    tick_until(session, lambda: other.state == "done")


def test_strips_need_not_wait_until_all_frames_of_another_job_are_read(addon, project, session, begin, strip, tmp_path):
    job = begin(strip)
    reach(session, "done")
    begun = []

    class Frames(list):
        """Says which of its files are being read."""

        def __iter__(self):
            for path in super().__iter__():
                begun.append(path)
                yield path

    frames = Frames(tmp_path / f"{number:05}.png" for number in range(60))
    for path in list.__iter__(frames):
        with open(path, "wb") as file:
            file.truncate(2**24)
    order = addon.orders.Order("read-slowly", job.settings, frames, 24.0, "", "edit", [], None)
    session.client.submit(order)
    wait_until(lambda: len(begun) > 1)
    wait_until(session.client.standing.ask)
    read = len(begun)
    session.client.cancel(order.job_id, None)
    session.client.standing.go()
    assert read < len(frames)
    tick_until(session, session.client.events.empty)
    assert len(begun) <= read + 1 and session.trouble is None
