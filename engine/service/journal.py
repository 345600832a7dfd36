"""Jobs on disk: what was asked for and how each stands, so that no crash forgets an accepted job."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from engine.errors import EditError
from protocol.errors import ProtocolError
from protocol.messages import JobStatus

from .pipes import Work

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    work BLOB NOT NULL,
    status BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""

_encode = msgspec.msgpack.Encoder().encode
_work = msgspec.msgpack.Decoder(Work).decode
_status = msgspec.msgpack.Decoder(JobStatus).decode


class Journal:
    """The jobs in an SQLite file; a method that changes something returns once that is on disk.

    A job is `queued` here until it has ended: that it runs is not noted, so that one which ran when the engine ended
    is found waiting again. A full disk raises `ProtocolError` (`disk-full` or `cannot-write`) and changes nothing.
    """

    def __init__(self, path: Path):
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise EditError(
                    "journal-newer", f"The journal {path} was written by a newer engine.", "Update this engine."
                )
            self._database.executescript(_SCHEMA)
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise EditError(
                "journal-damaged",
                f"The journal {path} cannot be used ({error}).",
                "Make room if the disk is full; else move the file away, which forgets its jobs.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def open_jobs(self) -> int:
        """How many jobs have not ended."""
        return self._database.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0]

    def add(self, work: Work) -> None:
        """Queue a new job."""
        status = JobStatus(job_id=work.job_id, state="queued")
        self._change(
            "INSERT INTO jobs (job_id, state, work, status) VALUES (?, ?, ?, ?)",
            (work.job_id, status.state, _encode(work), _encode(status)),
        )

    def set(self, status: JobStatus) -> None:
        """Note how a job stands."""
        self._change(
            "UPDATE jobs SET state = ?, status = ? WHERE job_id = ?", (status.state, _encode(status), status.job_id)
        )

    def work(self, job_id: str) -> Work | None:
        """What the job asks for; None where there is no such job."""
        row = self._database.execute("SELECT work FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        return _work(row[0]) if row else None

    def status(self, job_id: str) -> JobStatus | None:
        """How the job stood when it last changed its state; None where there is no such job."""
        row = self._database.execute("SELECT status FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        return _status(row[0]) if row else None

    def newest(self, count: int) -> list[JobStatus]:
        """The newest jobs, oldest first."""
        rows = self._database.execute("SELECT status FROM jobs ORDER BY number DESC LIMIT ?", (count,)).fetchall()
        return [_status(row[0]) for row in reversed(rows)]

    def first_queued(self) -> Work | None:
        """The job that has waited longest, or runs."""
        query = "SELECT work FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1"
        row = self._database.execute(query).fetchone()
        return _work(row[0]) if row else None

    def _change(self, statement: str, values: tuple) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            code = "disk-full" if error.sqlite_errorcode == sqlite3.SQLITE_FULL else "cannot-write"
            raise ProtocolError(
                code,
                f"The engine cannot write its journal ({error}).",
                "Make room on the disk that holds the engine's folder, and check that it may be written to.",
            ) from error
