"""An engine that is upgraded while jobs wait, and one that is older than its folder."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from engine.errors import EditError
from engine.service.accounts import LOCAL
from engine.service.journal import SCHEMA_VERSION, Journal
from engine.service.pipes import Work
from protocol import endpoint
from tests.service.harness import REPOSITORY, finished

FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    work BLOB NOT NULL,
    status BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
PRAGMA user_version = 1;
"""
"""Of version 0.1 of the engine."""


@pytest.fixture
def first_home(tmp_path, settings, clip) -> Callable[[], Path]:
    """A folder that an engine of version 0.1 has left: a job that waits, one that is done, one that nobody can read."""

    def make() -> Path:
        home, frames = tmp_path / "home", clip(2)
        (home / "blobs").mkdir(parents=True)
        names = []
        for data in (*(path.read_bytes() for path in frames), b"a result"):
            names.append(hashlib.sha256(data).hexdigest())
            (home / "blobs" / names[-1]).write_bytes(data)
        asked = msgspec.to_builtins(settings())
        work = {"type": "work", "settings": asked, "frames": names[:2], "fps": 24.0}
        rows = [
            ("done", "done", work, {"state": "done", "fraction": 1.0, "frames": names[2:]}),
            ("waits", "queued", work, {"state": "queued"}),
            ("strange", "queued", {"type": "work", "frames": "of another make"}, {"state": "queued"}),
        ]
        with closing(sqlite3.connect(home / "journal.sqlite3", isolation_level=None)) as journal:
            journal.execute("PRAGMA journal_mode = WAL")
            journal.executescript(FIRST_SCHEMA)
            for job_id, state, asks, status in rows:
                blobs = [msgspec.msgpack.encode({"job_id": job_id} | value) for value in (asks, status)]
                query = "INSERT INTO jobs (job_id, state, work, status) VALUES (?, ?, ?, ?)"
                journal.execute(query, (job_id, state, *blobs))
        return home

    return make


def test_jobs_of_the_first_version_go_on(first_home, start_engine, clip, tmp_path, settings):
    home = first_home()
    engine = start_engine(home)
    with engine.connect() as connection:
        assert [status.job_id for status in connection.jobs()] == ["done", "waits", "strange"]
        assert finished(connection, "waits").state == "done"
        assert len(connection.fetch("waits", tmp_path / "waits").frames) == 2
        (result,) = connection.fetch("done", tmp_path / "done").frames
        assert result.read_bytes() == b"a result"
        status = finished(connection, "strange")
        assert (status.state, status.error.code) == ("failed", "unreadable")
        assert connection.taken("done").taken
    assert not [path for path in (home / "blobs").iterdir() if path.is_file()], "they are their owner's now"


def test_what_jobs_of_the_first_version_need_is_kept(first_home):
    home = first_home()
    with closing(Journal(home / "journal.sqlite3")) as journal:
        needed = journal.needed(before=float("inf"))
        assert needed == {(LOCAL, path.name) for path in (home / "blobs").iterdir()}
        assert journal.queued(LOCAL) == ["waits", "strange"]
        assert journal.status(LOCAL, "done").state == "done"


def test_jobs_of_the_second_version_belong_to_no_project(tmp_path, settings):
    path = tmp_path / "journal.sqlite3"
    with closing(Journal(path)) as journal:
        journal.add(Work(job_id="waits", settings=settings(), frames=["0" * 64], fps=24.0, project="film", priority=2))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for column in ("project", "priority"):
            database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
        database.execute("PRAGMA user_version = 2")
    with closing(Journal(path)) as journal:
        (waiting,) = journal.asking()
        assert (waiting.job_id, waiting.project, waiting.priority) == ("waits", "", 0)


def test_an_upgrade_that_was_cut_off_is_done_again(first_home, monkeypatch):
    """Were the schema new and the blobs not noted, they would be dropped as nobody's."""
    home = first_home()

    def cut_off(self):
        raise sqlite3.OperationalError("the machine went off")

    with monkeypatch.context() as patch, pytest.raises(EditError):
        patch.setattr(Journal, "_note_all_blobs", cut_off)
        Journal(home / "journal.sqlite3")
    with closing(Journal(home / "journal.sqlite3")) as journal:
        assert len(journal.needed(before=float("inf"))) == 3
        assert journal.queued(LOCAL) == ["waits", "strange"]


def test_an_older_engine_leaves_a_newer_folder_alone(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with closing(sqlite3.connect(home / "journal.sqlite3", isolation_level=None)) as journal:
        journal.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    command = [sys.executable, "-m", "engine.service.server", "--home", str(home)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert "newer engine" in result.stderr and "Update" in result.stderr and "Traceback" not in result.stderr
    assert not (home / endpoint.FILE_NAME).exists()
    with closing(sqlite3.connect(home / "journal.sqlite3")) as journal:
        assert journal.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
