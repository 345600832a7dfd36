"""Frames that are sent while Blender exports further ones."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import bpy
import pytest

from tests.blender_addon.conftest import FRAMES, ROOT, reach, stop_engine, transfers_told, wait_until

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture(autouse=True)
def a_frame_a_tick(addon, monkeypatch):
    monkeypatch.setattr(addon.session, "TICK_BUDGET", 0.0)


@pytest.fixture
def begin(addon, project, session):
    """Begin an edit of a new strip, and export some of its frames."""

    def begin(seed: int, exported: int = 3):
        project.select(project.image_strip(name=f"clip {seed}", seed=seed))
        project.prompts(steps=1)
        project.save()
        job = addon.operators.edit.begin(bpy.context)
        while job.step < exported:
            session.tick()
        assert (job.state, job.step) == ("exporting", exported)
        return job

    return begin


def exported(job) -> list[str]:
    return list(job._export._digests)


def sent(addon, job) -> bool:
    """Whether the engine has all that is exported; Blender does nothing meanwhile."""
    return job.upload.sent == job.step and all((blobs(addon) / name).exists() for name in exported(job))


def blobs(addon) -> Path:
    return home_of(addon) / "blobs" / "local"


def written(addon, names: list[str]) -> list[int]:
    """When the engine has got these."""
    return [(blobs(addon) / name).stat().st_ino for name in names]


def home_of(addon) -> Path:
    return addon.folders.home_folder()


def test_frames_are_at_the_engine_before_all_are_exported(addon, project, session, begin):
    job = begin(seed=501)
    wait_until(lambda: sent(addon, job))
    assert (job.state, job.step, job.steps) == ("exporting", 3, FRAMES), "the panel counts what is written"
    assert addon.panels.queue.progress_text(job, session) == f"Exporting 3/{FRAMES}, 3 sent" and not job.at_engine
    reach(session, "running", "fetching", "placing", "done")
    assert "sent" not in addon.panels.queue.progress_text(job, session)
    reach(session, "done")
    assert (job.trouble, len(project.strips)) == (None, 2)


def test_what_was_sent_is_not_sent_with_the_job(addon, session, begin):
    job = begin(seed=502, exported=FRAMES - 1)
    wait_until(lambda: sent(addon, job))
    names = exported(job)
    before = written(addon, names)
    told = transfers_told(job, addon.events.Sending)
    reach(session, "done")
    assert all(done >= FRAMES - 1 and total == FRAMES for done, total in told), told
    assert written(addon, names) == before


def test_an_engine_that_dies_meanwhile_is_started_again(addon, project, session, begin):
    job = begin(seed=503, exported=2)
    wait_until(lambda: sent(addon, job))
    dead = getattr(addon, "protocol.endpoint").read(home_of(addon)).pid
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: not session.client.link.connection)
    session.tick()
    assert (job.state, job.step) == ("exporting", 3), "the export does not wait for it"
    wait_until(lambda: sent(addon, job))
    assert getattr(addon, "protocol.endpoint").read(home_of(addon)).pid != dead
    assert job.state == "exporting"
    reach(session, "done")
    assert (job.trouble, len(project.strips)) == (None, 2)


def test_one_that_is_cancelled_leaves_frames_for_the_next_and_nothing_else(addon, project, session, begin):
    job = begin(seed=504)
    wait_until(lambda: sent(addon, job))
    ahead, names = job.upload._ahead, exported(job)
    before = written(addon, names)
    session.cancel(job)
    assert job.state == "cancelled" and ahead.over and not ahead.waits
    assert list(addon.folders.exports_folder().iterdir()) == []
    wait_until(lambda: session.client._uploads.waiting is None)
    endpoint = getattr(addon, "protocol.endpoint").read(home_of(addon))
    with getattr(addon, "protocol.connection").Connection(endpoint, client="test") as connection:
        assert job.id not in [status.job_id for status in connection.jobs()]
    assert list((home_of(addon) / "partial").iterdir()) == []
    again = addon.operators.edit.begin(bpy.context)
    reach(session, "done")
    assert again.trouble is None
    assert written(addon, names) == before, "the next edit of the strip does not send them again"


def test_a_frame_that_cannot_be_read_is_told_of_by_the_job(addon, session, begin):
    """What goes wrong on the way ahead costs nothing but the time that it would have saved."""
    job = begin(seed=505, exported=2)
    wait_until(lambda: sent(addon, job))
    job.upload._ahead.add(job._export.folder / "no such file.png")
    wait_until(lambda: job.upload._ahead.over)
    assert session.engine == "ready" and session.trouble is None
    reach(session, "done")
    assert job.trouble is None


def test_a_result_that_is_made_anew_sends_nothing_ahead(addon, session, begin):
    """Only when all frames are there it is known whether they differ."""
    job = begin(seed=506, exported=1)
    session.cancel(job)
    session.edit(job.source, job.settings, known_digest="0" * 64)
    job = session.job
    session.tick()
    assert (job.state, job.step, job.upload._ahead) == ("exporting", 1, None)
    reach(session, "done")


@pytest.fixture
def older_engine(addon, tmp_path, monkeypatch):
    """Have the add-on start an engine that does not know of offers."""
    stop_engine(addon)
    for package in ("engine", "protocol"):
        shutil.copytree(ROOT / package, tmp_path / "older" / package)
    for name, line, without in (
        ("limits", '        "offered_blobs": MAX_OFFERED_BLOBS,\n', ""),
        ("messages", "| Rest | Offer\n", "| Rest\n"),
    ):
        path = tmp_path / "older" / "protocol" / f"{name}.py"
        text = path.read_text()
        assert line in text
        path.write_text(text.replace(line, without))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "older"))
    yield
    stop_engine(addon)


def test_an_older_engine_gets_the_frames_with_the_job(addon, project, session, older_engine, begin):
    job = begin(seed=507)
    ahead = job.upload._ahead
    wait_until(lambda: ahead.over)
    assert (job.state, ahead.sent) == ("exporting", 0) and not any(
        (blobs(addon) / name).exists() for name in exported(job)
    )
    reach(session, "done")
    assert (job.trouble, len(project.strips)) == (None, 2)
