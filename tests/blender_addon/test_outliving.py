"""Jobs outlive engines, connections and Blenders, and a result waits until it can be written and placed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import bpy
import msgspec
import pytest

# isort: split
import addon_utils  # a module of Blender's, there once bpy is

from tests.blender_addon.conftest import (
    MODULE,
    RESOURCES,
    full_disk,
    new_file,
    processes_with,
    reach,
    stage,
    stop_engine,
    tick_until,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("engine")
LONG, ENDLESS = 60, 900
"""Denoising steps: enough to break something meanwhile; more than anybody waits for."""


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture(autouse=True)
def at_once(addon, project):
    """However a test changes that, the engine ends at once when Blender closes."""
    yield
    bpy.context.preferences.addons[MODULE].preferences.when_closed = "at-once"


@pytest.fixture
def begin(addon, project):
    """Begin an edit of a new strip, as the button does."""

    def begin(steps: int = 1, name: str = "clip", **settings):
        strip = project.image_strip(name, count=2)
        project.select(strip)
        project.prompts(steps=steps, **settings)
        project.save()
        return addon.operators.edit.begin(bpy.context)

    return begin


@pytest.fixture
def ask(addon):
    """Ask the engine itself, over a connection of one's own."""

    def ask(what: str, *arguments):
        endpoint = getattr(addon, "protocol.endpoint").read(addon.folders.home_folder())
        with getattr(addon, "protocol.connection").Connection(endpoint, client="test") as connection:
            return getattr(connection, what)(*arguments)

    return ask


def engine_pid(addon) -> int:
    return getattr(addon, "protocol.endpoint").read(addon.folders.home_folder()).pid


def landed_once(project, job) -> None:
    """The job has put exactly one strip over its source."""
    assert (job.state, job.trouble) == ("done", None)
    assert sorted(project.strips.keys()) == ["clip", job.result]
    assert len(project.strips[job.result].elements) == 2
    assert len(list((project.folder / "fatezero").iterdir())) == 1


def reopen(addon, project=None) -> None:
    """What the add-on sees when Blender is closed and opened again, with that file or an empty one."""
    addon_utils.disable(MODULE)
    new_file()
    addon_utils.enable(MODULE)
    if project:
        bpy.ops.wm.open_mainfile(filepath=str(project.path))
    addon.jobs.session.tick()


class TestEngines:
    def test_one_that_dies_is_replaced_and_the_job_goes_on(self, addon, project, session, begin):
        job = begin(LONG)
        reach(session, "running")
        dead = engine_pid(addon)
        os.kill(dead, signal.SIGKILL)
        states = set()
        tick_until(session, lambda: states.add(session.engine) or job.final)
        assert {"lost", "ready"} <= states
        landed_once(project, job)
        assert engine_pid(addon) != dead

    def test_one_of_another_blender_that_is_replaced_by_it(self, addon, project, session, begin, engine_python):
        """The engine that the job is with was not started here, ends, and another one listens elsewhere."""
        stop_engine(addon)
        home = addon.folders.home_folder()
        command = [engine_python, "-m", "engine", "serve", "--home", home]
        first = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert first.stdout.readline().startswith(b"Engine")
        job = begin(LONG)
        reach(session, "running")
        assert session.client.link.process is None
        first.kill()
        first.wait()
        second = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        tick_until(session, lambda: job.final)
        landed_once(project, job)
        stop_engine(addon)
        wait_until(lambda: second.poll() is not None)
        first.stdout.close()

    def test_one_that_keeps_dying_is_given_up(self, addon, project, session, begin, monkeypatch):
        monkeypatch.setattr(addon.tries, "MOST_TRIES", 0)
        job = begin(ENDLESS)
        reach(session, "running")
        os.kill(engine_pid(addon), signal.SIGKILL)
        tick_until(session, lambda: session.engine == "off")
        log = addon.folders.home_folder() / "engine.log"
        assert str(session.trouble) == (
            f"The engine ended by itself (exit code -9). Start it again: its jobs go on where they were; {log} may "
            "say why."
        )
        assert job.under_way and not session.busy
        monkeypatch.undo()
        bpy.ops.fatezero.start_engine()
        reach(session, "running")
        assert session.trouble is None
        session.cancel(job)

    def test_one_that_is_stopped_keeps_the_job_for_the_next(self, addon, project, session, begin):
        job = begin(LONG)
        reach(session, "running")
        assert bpy.ops.fatezero.stop_engine() == {"FINISHED"}
        tick_until(session, lambda: session.engine == "off")
        assert processes_with(str(addon.folders.home_folder())) == []
        assert job.under_way and not session.busy and session.trouble is None
        bpy.ops.fatezero.start_engine()
        addon.jobs.wait(300)
        landed_once(project, job)

    def test_one_that_is_stopped_keeps_what_is_exported_and_sent_for_the_next(
        self, addon, project, session, begin, monkeypatch
    ):
        stop_engine(addon)
        monkeypatch.setattr(addon.session, "TICK_BUDGET", 0.0)
        sent = begin()
        reach(session, "sending")  # no engine can have answered yet
        exported = begin(1, name="other")
        session.tick()
        stop_engine(addon)
        for _ in range(5):
            session.tick()
        assert (sent.state, exported.state, exported.step) == ("sending", "exporting", 1)
        assert addon.panels.queue.progress_text(exported, session) == "Goes on when the engine is started"
        assert not session.busy and session.engine == "off" and session.trouble is None
        bpy.ops.fatezero.start_engine()
        addon.jobs.wait(300)
        assert [(job.state, job.trouble) for job in session.jobs] == [("done", None)] * 2

    def test_one_that_is_started_while_it_stops(self, addon, session, begin):
        begin(LONG)
        reach(session, "running")
        session.stop_engine()
        job = begin(1, name="other")
        addon.jobs.wait(300, job)
        assert job.state == "done", "the wait does not end with the first engine"

    def test_a_job_that_is_cancelled_without_one_is_forgotten_by_the_next(self, addon, session, begin, ask):
        job = begin(ENDLESS)
        reach(session, "running")
        stop_engine(addon)
        assert bpy.ops.fatezero.cancel() == {"FINISHED"}
        assert job.state == "cancelled"
        bpy.ops.fatezero.dismiss()
        reopen(addon)
        session = addon.jobs.session
        assert (session.jobs, session.engine) == ([], "off")
        session.start_engine()
        tick_until(session, lambda: session.engine == "ready" and not session._over)
        assert job.id not in [status.job_id for status in ask("jobs")]

    def test_a_job_that_it_does_not_know_any_more(self, addon, project, session, begin, ask):
        job = begin(ENDLESS)
        reach(session, "running")
        ask("forget", job.id)
        reach(session, "failed")
        assert job.id in str(job.trouble)


class TestCancelling:
    """Whatever is in the way, the engine does not go on for ever with what is cancelled."""

    @pytest.fixture
    def refused(self, addon, session, begin):
        """An edit that runs, and whose cancelling the engine has refused, as its journal could not be written."""
        job = begin(ENDLESS)
        reach(session, "running")
        journal = sqlite3.connect(addon.folders.home_folder() / "journal.sqlite3", isolation_level=None)
        journal.execute("BEGIN EXCLUSIVE")
        try:
            assert bpy.ops.fatezero.cancel() == {"FINISHED"}
            assert job.cancelling and not bpy.ops.fatezero.cancel.poll()
            tick_until(session, lambda: not job.cancelling, 30.0)
        finally:
            journal.close()
        assert session.trouble is job.trouble and "cannot write its journal" in str(job.trouble)
        tick_until(session, lambda: job.state == "running")
        return job

    def test_one_that_is_refused_can_be_made_again(self, session, refused, ask):
        assert bpy.ops.fatezero.cancel() == {"FINISHED"}
        tick_until(session, lambda: refused.state == "cancelled" and not refused.record())
        assert session.trouble is None and refused.id not in [status.job_id for status in ask("jobs")]

    def test_one_that_is_refused_is_made_again_when_the_engine_is_started(self, addon, session, refused, ask):
        stop_engine(addon)
        session.start_engine()
        tick_until(session, lambda: session.engine == "ready" and not refused.record())
        assert refused.state == "cancelled" and refused.id not in [status.job_id for status in ask("jobs")]

    def test_one_that_the_engine_had_not_heard_when_blender_ended(self, addon, project, session, begin, ask):
        job = begin(ENDLESS)
        reach(session, "running")
        record = msgspec.structs.replace(job.record(), tell="forget")
        session.close()
        left = addon.records.Shelf(addon.folders.records_folder())
        for path in addon.folders.records_folder().rglob("*.json"):
            path.unlink()  # as they were, had Blender been killed
        left.put(record)
        left.close()
        session.tick()
        assert session.jobs == [] and not session.busy, "it does not wait for anything"
        session.start_engine()
        tick_until(session, lambda: session.engine == "ready" and not session._over)
        assert job.id not in [status.job_id for status in ask("jobs")]

    def test_one_that_the_engine_has_not_heard_when_the_next_edit_begins(self, addon, session, begin, ask):
        job = begin(ENDLESS)
        reach(session, "running")
        stop_engine(addon)
        bpy.ops.fatezero.cancel()
        other = begin(1, name="other")
        assert session.jobs == [other]
        reach(session, "done")
        tick_until(session, lambda: not session._over)
        assert job.id not in [status.job_id for status in ask("jobs")]


class TestBlenders:
    def test_one_that_is_closed_and_opened_again(self, addon, project, begin, session):
        begin(LONG)
        reach(session, "running")
        home = str(addon.folders.home_folder())
        addon_utils.disable(MODULE)
        assert addon.jobs.session.jobs == []
        wait_until(lambda: processes_with(home) == [])  # the engine ends at once, as the preference says
        assert not (project.folder / "fatezero").exists()
        reopen(addon, project)
        session = addon.jobs.session
        assert [(job.source.name, job.state) for job in session.jobs] == [("clip", "queued")]
        job = session.job
        addon.jobs.wait(300)
        landed_once(project, job)
        origin = addon.reimport.origin_of(project.strips[job.result])
        assert (origin.target, len(origin.source_digest)) == ("a blue ball", 64)

    def test_the_queue_is_finished_without_one(self, addon, project, begin, session):
        bpy.context.preferences.addons[MODULE].preferences.when_closed = "after-queue"
        begin(LONG)
        reach(session, "running")
        home = str(addon.folders.home_folder())
        addon_utils.disable(MODULE)
        time.sleep(1.0)
        assert processes_with(home) != []
        wait_until(lambda: processes_with(home) == [])
        reopen(addon, project)
        addon.jobs.wait(300)
        landed_once(project, addon.jobs.session.job)

    def test_an_engine_that_keeps_running(self, addon, session, begin, ask):
        preferences = bpy.context.preferences.addons[MODULE].preferences
        session.start_engine()
        tick_until(session, lambda: session.engine == "ready")
        running = engine_pid(addon)
        preferences.when_closed = "never"  # told to the engine that runs
        time.sleep(1.0)  # the client's thread tells the engine at once
        reopen(addon)
        time.sleep(4.0)  # longer than an engine that is left alone waits
        assert engine_pid(addon) == running
        addon.jobs.session.start_engine()
        tick_until(addon.jobs.session, lambda: addon.jobs.session.engine == "ready")
        assert engine_pid(addon) == running
        stop_engine(addon)
        assert processes_with(str(addon.folders.home_folder())) == []

    def test_a_result_waits_for_its_file_without_any_engine(self, addon, project, begin, session, ask, tmp_path):
        job = begin()
        reach(session, "running", "fetching")
        new_file()
        project.save(tmp_path / "other.blend")
        reach(session, "unplaced")
        tick_until(session, lambda: ask("status", job.id).taken)
        stop_engine(addon)
        reopen(addon)
        session = addon.jobs.session
        assert [job.state for job in session.jobs] == ["unplaced"]
        assert str(session.job.trouble).endswith("Open project.blend to place them, or place them here.")
        bpy.ops.wm.open_mainfile(filepath=str(project.path))
        reach(session, "done")
        landed_once(project, session.job)
        assert session.engine == "off"
        assert addon.reimport.origin_of(project.strips[session.job.result]).engine

    def test_a_strip_in_a_file_that_was_not_saved_is_placed_again(self, addon, project, begin, session, monkeypatch):
        job = begin()
        reach(session, "done")
        landed_once(project, job)
        new_file()  # whoever crashes saves nothing either
        session.tick()
        assert job.state == "unplaced"
        for _ in range(2):
            reopen(addon, project)
            reach(addon.jobs.session, "done")
            landed_once(project, addon.jobs.session.job)
            bpy.ops.wm.save_as_mainfile(filepath=str(project.folder / "copy.blend"), copy=True)
            bpy.ops.wm.save_homefile()
            (RESOURCES / "config" / "startup.blend").unlink()
        with monkeypatch.context() as killed:  # when the file was saved, and that was not noted down yet
            killed.setattr(addon.jobs.session, "saved", lambda: None)
            project.save()
        reopen(addon, project)
        reach(addon.jobs.session, "done")
        assert len(project.strips) == 2
        reopen(addon, project)
        assert addon.jobs.session.jobs == [] and len(project.strips) == 2

    def test_a_strip_in_a_recovered_file_stays_noted_down_until_that_is_saved(
        self, addon, project, begin, session, monkeypatch
    ):
        begin()
        before = shutil.copy2(project.path, project.folder / "before.blend")
        written = project.path.stat().st_mtime
        reach(session, "done")
        with monkeypatch.context() as unheard:
            unheard.setattr(session, "saved", lambda: None)
            project.save()
        os.utime(project.path, (written, written))
        bpy.ops.wm.open_mainfile(
            filepath=str(project.path)
        )  # so a recovered file is: the strip in it, an old one on disk
        reach(session, "done")
        landed_once(project, session.job)
        before.replace(project.path)
        reopen(addon, project)  # after one more crash
        reach(addon.jobs.session, "done")
        landed_once(project, addon.jobs.session.job)

    def test_one_that_is_dismissed_is_placed_again_too_in_a_file_that_was_not_saved(
        self, addon, project, begin, session
    ):
        job = begin()
        reach(session, "done")
        assert bpy.ops.fatezero.clear_finished() == {"FINISHED"}
        session.tick()
        assert session.jobs == []
        bpy.ops.wm.open_mainfile(filepath=str(project.path))  # File > Revert
        reach(session, "done")
        landed_once(project, job)

    def test_a_project_whose_folder_was_renamed(self, addon, project, begin, session):
        job = begin()
        reach(session, "running", "fetching")
        new_file()
        reach(session, "unplaced")
        moved = project.folder.with_name("renamed")
        project.folder.rename(moved)
        bpy.ops.wm.open_mainfile(filepath=str(moved / project.path.name))
        session.tick()
        assert job.state == "unplaced", "who knows which file that is"
        assert bpy.ops.fatezero.place_here() == {"FINISHED"}
        reach(session, "done")
        assert job.result in project.strips and len(project.strips) == 2

    def test_a_file_that_is_opened_by_another_path(self, addon, project, begin, session, tmp_path):
        job = begin()
        reach(session, "running", "fetching")
        new_file()
        (tmp_path / "link").symlink_to(project.folder, target_is_directory=True)
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "link" / project.path.name))
        reach(session, "done")
        landed_once(project, job)

    def test_a_result_for_a_file_that_was_saved_elsewhere_waits_for_that(
        self, addon, project, begin, session, tmp_path
    ):
        begin()
        reach(session, "running", "fetching")
        (tmp_path / "moved").mkdir()
        project.save(tmp_path / "moved" / "moved.blend")
        new_file()
        reach(session, "unplaced")
        reopen(addon)
        bpy.ops.wm.open_mainfile(filepath=str(project.path))
        addon.jobs.session.tick()
        assert addon.jobs.session.job.state == "unplaced"
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "moved" / "moved.blend"))
        reach(addon.jobs.session, "done")
        assert addon.jobs.session.job.state == "done"
        assert len(project.strips) == 2

    def test_one_that_is_killed_leaves_no_process_and_its_job_to_the_next(self, project, checkpoint, tmp_path):
        strip = project.image_strip(count=2)
        project.select(strip)
        project.save()
        resources = tmp_path / "resources"
        stage(resources)

        def blender(what: str) -> subprocess.Popen:
            packages = os.pathsep.join(sys.path)  # an installed Blender has ours only where it was told
            script = [Path(__file__).with_name("killed_blender.py"), "--", what, packages, project.path, checkpoint]
            if bpy.app.binary_path:
                command = [bpy.app.binary_path, "--background", "--python", *script]
            else:
                command = [sys.executable, *script]
            environ = os.environ | {"BLENDER_USER_RESOURCES": str(resources)}
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)

        first = blender("begin")
        with first.stdout:
            assert any(line.startswith("RUNNING") for line in first.stdout)
            assert len(processes_with(f"--home {resources}")) == 2  # the engine's server and its worker
            first.send_signal(signal.SIGKILL)
        first.wait()
        wait_until(lambda: processes_with(f"--home {resources}") == [])
        second = blender("go-on")
        told = second.communicate()[0]
        assert "ENDED done None" in told, told
        wait_until(lambda: processes_with(f"--home {resources}") == [])
        bpy.ops.wm.open_mainfile(filepath=str(project.path))
        assert sorted(project.strips.keys()) == ["clip", "clip FateZero"]
        assert len(project.strips["clip FateZero"].elements) == 2
        assert [path.name for path in resources.rglob("*.lock")] == ["engine.lock"]
        assert list((resources / "extensions/.user/user_default/fatezero_vse/jobs").iterdir()) == []


def test_two_blenders_that_start_an_engine_at_once_share_one(addon, engine_python, tmp_path):
    place = addon.places.Local(tmp_path / "home", engine_python, "at-once")
    links = [addon.link.Link(place) for _ in range(3)]
    threads = [threading.Thread(target=link.connect, args=[lambda: None]) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(link.welcome for link in links)
    assert len({link.connection._line._endpoint.pid for link in links}) == 1
    (starter,) = [link for link in links if link.process]
    starter.close()
    others = [link for link in links if link is not starter]
    time.sleep(4.0)  # longer than an engine that is left alone waits
    assert all(link.connection.ping() < 5.0 for link in others)
    for link in others:
        link.close()
    wait_until(lambda: processes_with(str(tmp_path / "home")) == [])


def test_an_engine_that_began_to_listen_a_moment_ago_is_used(addon, engine_python, tmp_path, monkeypatch):
    slow_python = tmp_path / "slow"
    slow_python.write_text(f'#!/bin/sh\nsleep 2\nexec "{engine_python}" "$@"\n')
    slow_python.chmod(0o700)
    places = [addon.places.Local(tmp_path / "home", python, "at-once") for python in (engine_python, slow_python)]
    first, second = map(addon.link.Link, places)
    first.connect(lambda: None)
    look, looks = addon.engine_process.running_endpoint, []
    monkeypatch.setattr(
        addon.engine_process, "running_endpoint", lambda home: look(home) if looks else looks.append("too early")
    )
    monkeypatch.setattr(addon.link, "START_PATIENCE", 20.0)
    second.connect(lambda: None)
    assert second.process is None and second.connection.ping() < 5.0
    for link in (first, second):
        link.close()
    wait_until(lambda: processes_with(str(tmp_path / "home")) == [])


class TestResults:
    def test_a_full_disk(self, addon, project, session, begin, ask):
        job = begin()
        reach(session, "running", "fetching")
        with full_disk():
            reach(session, "unfetched")
        assert "the disk is full" in str(session.trouble)
        assert not ask("status", job.id).taken
        assert not session.busy
        assert bpy.ops.fatezero.fetch_again() == {"FINISHED"}
        reach(session, "done")
        landed_once(project, job)
        tick_until(session, lambda: ask("status", job.id).taken)

    def test_a_folder_that_cannot_be_made(self, addon, project, session, begin):
        begin()
        in_the_way = project.folder / "fatezero"
        in_the_way.write_text("in the way")  # after the edit has begun, or it would have been refused
        reach(session, "unfetched")
        assert str(session.trouble).startswith(f"The result cannot be written to {in_the_way}: ")
        in_the_way.unlink()
        reopen(addon, project)  # the next session needs no button
        addon.jobs.wait(300)
        landed_once(project, addon.jobs.session.job)

    def test_one_that_the_engine_has_lost(self, addon, project, session, begin, ask):
        job = begin()
        reach(session, "running", "fetching")
        with full_disk():
            reach(session, "unfetched")
        (addon.folders.home_folder() / "blobs" / "local" / ask("status", job.id).frames[0]).unlink()
        assert bpy.ops.fatezero.fetch_again() == {"FINISHED"}
        reach(session, "unfetched")
        assert "does not have the frame" in str(session.trouble)
        assert bpy.ops.fatezero.try_again() == {"FINISHED"}
        tick_until(session, lambda: job.state == "done")
        landed_once(project, job)

    def test_one_that_is_not_wanted_any_more(self, addon, project, session, begin, ask):
        job = begin()
        reach(session, "running", "fetching")
        with full_disk():
            reach(session, "unfetched")
        assert bpy.ops.fatezero.dismiss() == {"FINISHED"}
        assert session.jobs == []
        tick_until(session, lambda: not session._over)
        assert job.id not in [status.job_id for status in ask("jobs")]
        assert not (project.folder / "fatezero").exists()
