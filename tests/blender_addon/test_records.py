"""Records of jobs: whole or not there, and each with one living Blender."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.blender_addon.conftest import ROOT, tick_until


@pytest.fixture
def record(addon, project):
    """A record of a job of the project's strip."""
    source = addon.strips.describe(project.scene, project.image_strip())
    project.prompts()

    def make(job_id: str = "one", **changes):
        values = dict(
            job_id=job_id,
            engine="",
            begun=1.5,
            document=project.path,
            source=source,
            settings=project.scene.fatezero.as_edit(),
            state="sent",
            landing=project.folder / "fatezero" / "clip-1",
        )
        return addon.records.Record(**values | changes)

    return make


@pytest.fixture
def shelf(addon, tmp_path):
    """Shelves of several sessions, in one folder."""
    return lambda: addon.records.Shelf(tmp_path / "jobs")


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_next_session_finds_what_one_has_left(shelf, record, tmp_path):
    first, second = record("one"), record("two", state="arrived", frames=6, notes=["cut"], tell="taken")
    left = shelf()
    left.put(first)
    left.put(second)
    left.put(record("three"))
    left.remove("three")
    left.close()
    found = shelf()
    assert found.adopt() == [first, second]
    assert found.adopt() == []
    found.remove("one")
    found.remove("two")
    found.close()
    assert list((tmp_path / "jobs").iterdir()) == []  # neither records nor locks


def test_what_a_living_blender_has_is_left_to_it(shelf, record):
    alive, other = shelf(), shelf()
    alive.put(record())
    assert other.adopt() == []
    alive.close()
    assert [found.job_id for found in other.adopt()] == ["one"]
    other.remove("one")
    other.close()


def test_what_a_killed_one_has_left_is_found(addon, shelf, record, tmp_path):
    """A process that holds a session's lock, and is killed while it writes a record."""
    left = shelf()
    left.put(record())
    left.close()
    (folder,) = [path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]
    (folder / ".two.json.0123").write_bytes(b"{")
    hold = (
        "import fcntl, sys, time; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX);"
        " print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, folder.with_suffix(".lock")], stdout=subprocess.PIPE, cwd=ROOT, env=os.environ
    )
    other = shelf()
    try:
        assert process.stdout.readline() == b"held\n"
        assert other.adopt() == []
    finally:
        process.kill()
        process.communicate()
    assert [found.job_id for found in other.adopt()] == ["one"]
    assert not folder.exists() and not folder.with_suffix(".lock").exists()
    other.remove("one")
    other.close()


def test_what_is_no_record_is_passed_over(shelf, record, tmp_path):
    left = shelf()
    left.put(record())
    left.close()
    (path,) = (tmp_path / "jobs").rglob("one.json")
    good = msgspec.json.decode(path.read_bytes())
    for number, text in enumerate((b"", b"{", b"[]", msgspec.json.encode(good | {"state": "lost"}))):
        path.with_name(f"bad-{number}.json").write_bytes(text)
    other = shelf()
    assert other.adopt() == [record()]
    assert files_in(tmp_path / "jobs") == sorted(["one.json", f"{other._own.name}.lock"])
    other.remove("one")
    other.close()


def test_a_path_that_is_no_text_is_found_again(shelf, record):
    """Linux allows any bytes in a file's name."""
    document, landing = (Path(os.fsdecode(name)) for name in (b"/tmp/\xff.blend", b"/tmp/\xff\xc3\xa4/fatezero"))
    left = shelf()
    left.put(record(document=document, landing=landing))
    left.close()
    other = shelf()
    (found,) = other.adopt()
    assert (found.document, found.landing) == (document, landing)
    other.remove("one")
    other.close()


def test_a_job_that_may_not_have_reached_the_engine(addon, project, engine, record):
    """A Blender that was killed while it sent a job: the engine is asked, and does not know it."""
    left = addon.records.Shelf(addon.folders.records_folder())
    left.put(record("never-sent", state="sending"))
    left.close()
    session = addon.jobs.session
    session.look()
    tick_until(session, lambda: bool(session.jobs) and session.job.final)
    assert session.job.state == "failed"
    assert str(session.job.trouble) == "'clip' had not reached the engine when Blender ended. Edit the strip again."


def test_what_cannot_be_noted_down_is_said(addon, project, engine, monkeypatch, tmp_path):
    """The job goes on all the same."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    session = addon.jobs.session
    monkeypatch.setattr(addon.folders, "records_folder", lambda: in_the_way / "jobs")
    monkeypatch.setattr(session, "_shelf", None)
    job = addon.jobs.session.edit(
        addon.strips.describe(project.scene, project.image_strip(count=1)), _settings(project)
    )
    addon.jobs.wait(300)
    assert job.state == "done"
    assert "cannot be noted down" in str(session.trouble)


def test_what_could_not_be_noted_down_is_once_there_is_room(addon, project, monkeypatch, tmp_path):
    """Else a job of which nothing new is heard would be lost with this Blender."""
    records, session = tmp_path / "records", addon.session.Session()
    records.write_text("in the way")
    monkeypatch.setattr(addon.folders, "records_folder", lambda: records)
    source = addon.strips.describe(project.scene, project.image_strip(count=1))
    job = addon.job.Job("held", source, _settings(project), addon.documents.current(), "")
    job.state, job.at_engine, session.jobs = "queued", True, [job]
    session.keep()
    assert "cannot be noted down" in str(session.trouble)
    records.unlink()
    session.keep()
    assert not records.exists(), "not with every tick"
    later = time.monotonic() + addon.session.KEEP_AGAIN
    monkeypatch.setattr(addon.session.time, "monotonic", lambda: later)
    session.keep()
    assert [path.name for path in records.rglob("*.json")] == ["held.json"]
    session.close()


def _settings(project):
    project.prompts(steps=1)
    return project.scene.fatezero.as_edit()
