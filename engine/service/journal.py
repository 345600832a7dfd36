"""Jobs on disk: what was asked for and how each stands, so that no crash forgets an accepted job."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from engine.errors import EditError
from protocol.errors import UNREADABLE, ProtocolError
from protocol.messages import Failure, JobStatus

from .accounts import LOCAL
from .pipes import Work
from .turns import Asking

SCHEMA_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL,
    job_id TEXT NOT NULL,
    state TEXT NOT NULL,
    place INTEGER NOT NULL,
    work BLOB NOT NULL,
    status BLOB NOT NULL,
    ended REAL,
    project TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, job_id)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, place);
CREATE TABLE IF NOT EXISTS blobs (
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    PRIMARY KEY (owner, name, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_job ON blobs (number);
"""
_FROM_VERSION_1 = f"""
ALTER TABLE jobs RENAME TO jobs_1;
DROP INDEX jobs_by_state;
{_SCHEMA}
INSERT INTO jobs (number, owner, job_id, state, place, work, status, ended)
    SELECT number, '{LOCAL}', job_id, state, number, work, status,
           CASE WHEN state IN ('done', 'failed', 'cancelled') THEN strftime('%s') END FROM jobs_1;
DROP TABLE jobs_1;
"""
_FROM_VERSION_2 = """
ALTER TABLE jobs ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
"""
_SCHEMA_FROM = {0: _SCHEMA, 1: _FROM_VERSION_1, 2: _FROM_VERSION_2, SCHEMA_VERSION: ""}
"""What brings a journal of each version to the present one."""
_OPEN = "state IN ('queued', 'paused')"
# A job's blobs are needed while it may still run or be fetched, and for some time after that.
_NEEDED = f"({_OPEN} OR state = 'done' OR ended >= :before)"

_encode = msgspec.msgpack.Encoder().encode
_work = msgspec.msgpack.Decoder(Work).decode
_status = msgspec.msgpack.Decoder(JobStatus).decode


class Journal:
    """The jobs in an SQLite file; a method that changes something returns once that is on disk.

    A job is `queued` here until it has ended or is paused: that it runs is not noted, so that one which ran when the
    engine ended is found waiting again. Its state is `taken` once the client has a done job's result. A full disk
    raises `ProtocolError` (`disk-full` or `cannot-write`) and changes nothing. For one thread at a time.
    """

    def __init__(self, path: Path):
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA foreign_keys = ON")
            (version,) = self._database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise EditError(
                    "journal-newer", f"The journal {path} was written by a newer engine.", "Update this engine."
                )
            self._database.executescript(f"BEGIN; {_SCHEMA_FROM[version]} PRAGMA user_version = {SCHEMA_VERSION};")
            if version == 1:
                self._note_all_blobs()
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(AttributeError):  # it was not even opened
                self._database.close()
            raise EditError(
                "journal-damaged",
                f"The journal {path} cannot be used ({error}).",
                "Make room if the disk is full; else move the file away, which forgets its jobs.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def count(self, owner: str | None = None) -> int:
        """How many jobs have not ended, of one owner or of all."""
        query = f"SELECT count(*) FROM jobs WHERE {_OPEN} AND owner = coalesce(?, owner)"
        return self._database.execute(query, (owner,)).fetchone()[0]

    def add(self, work: Work) -> None:
        """Queue a new job, last of its owner's."""
        status = JobStatus(job_id=work.job_id, task=work.task, state="queued")
        with self._change() as database:
            cursor = database.execute(
                "INSERT INTO jobs (owner, job_id, state, place, work, status, project, priority) "
                "SELECT ?, ?, ?, coalesce(max(place), 0) + 1, ?, ?, ?, ? FROM jobs",
                (work.owner, work.job_id, status.state, _encode(work), _encode(status), work.project, work.priority),
            )
            self._note_blobs(work.owner, cursor.lastrowid, work.blobs)

    def set(self, owner: str, status: JobStatus) -> None:
        """Note how a job stands."""
        ended = time.time() if status.final else None
        state = "taken" if status.taken else status.state
        with self._change() as database:
            row = database.execute(
                "UPDATE jobs SET state = ?, status = ?, ended = ? WHERE owner = ? AND job_id = ? RETURNING number",
                (state, _encode(status), ended, owner, status.job_id),
            ).fetchone()
            if row:
                self._note_blobs(owner, row[0], status.blobs)

    def needs(self, owner: str, job_id: str, blobs: Iterable[str]) -> None:
        """Note that a job needs these blobs, too: what there is of its result before it has ended."""
        query = "SELECT number FROM jobs WHERE owner = ? AND job_id = ?"
        if row := self._database.execute(query, (owner, job_id)).fetchone():
            with self._change():
                self._note_blobs(owner, row[0], blobs)

    def remove(self, owner: str, job_id: str) -> None:
        """Forget a job."""
        with self._change() as database:
            database.execute("DELETE FROM jobs WHERE owner = ? AND job_id = ?", (owner, job_id))

    def work(self, owner: str, job_id: str) -> Work | None:
        """What the job asks for; None where there is no such job, or an engine of another make wrote what it asks."""
        row = self._database.execute("SELECT work FROM jobs WHERE owner = ? AND job_id = ?", (owner, job_id)).fetchone()
        try:
            return _work(row[0]) if row else None
        except UNREADABLE:
            return None

    def status(self, owner: str, job_id: str) -> JobStatus | None:
        """How the job stood when it last changed its state; None where there is no such job."""
        row = self._database.execute(
            "SELECT status FROM jobs WHERE owner = ? AND job_id = ?", (owner, job_id)
        ).fetchone()
        return _readable(job_id, row[0]) if row else None

    def newest(self, owner: str, count: int) -> list[str]:
        """Ids of the owner's newest jobs, oldest first."""
        query = "SELECT job_id FROM jobs WHERE owner = ? ORDER BY number DESC LIMIT ?"
        return [job_id for (job_id,) in reversed(self._database.execute(query, (owner, count)).fetchall())]

    def queued(self, owner: str) -> list[str]:
        """Ids of the owner's jobs that wait or run, in the order in which they shall."""
        return [job_id for job_id, _ in self._queued(owner)]

    def asking(self) -> list[Asking]:
        """All jobs that wait or run, the one that has waited longest first."""
        query = "SELECT owner, project, job_id, place, priority FROM jobs WHERE state = 'queued' ORDER BY place, number"
        return [Asking(*row) for row in self._database.execute(query)]

    def open_works(self) -> list[Work]:
        """What the jobs ask for that have not ended, as far as it can be read."""
        found = []
        for (work,) in self._database.execute(f"SELECT work FROM jobs WHERE {_OPEN}"):
            with suppress(*UNREADABLE):
                found.append(_work(work))
        return found

    def move(self, owner: str, job_id: str, before: str | None) -> None:
        """Have a queued job come just before another one of its owner's, or last: they take each other's places."""
        queued = self._queued(owner)
        order = [other for other, _ in queued if other != job_id]
        order.insert(order.index(before) if before in order else len(order), job_id)
        with self._change() as database:
            database.executemany(
                "UPDATE jobs SET place = ? WHERE owner = ? AND job_id = ?",
                [(place, owner, other) for other, (_, place) in zip(order, queued, strict=True)],
            )

    def unfinished(self) -> set[tuple[str, str]]:
        """Owner and id of the jobs whose checkpoints are still of use: they wait, run, are paused or failed."""
        query = f"SELECT owner, job_id FROM jobs WHERE {_OPEN} OR state = 'failed'"
        return set(self._database.execute(query).fetchall())

    def failed(self, before: float) -> list[tuple[str, str]]:
        """Owner and id of the jobs that failed before that time, in seconds since the epoch, oldest first."""
        query = "SELECT owner, job_id FROM jobs WHERE state = 'failed' AND ended < ? ORDER BY ended, number"
        return self._database.execute(query, (before,)).fetchall()

    def needed(self, before: float) -> set[tuple[str, str]]:
        """Owner and name of blobs that a job needs: it has not ended, its result was not taken, or it ended later.

        `before`: seconds since the epoch.
        """
        query = f"SELECT DISTINCT b.owner, b.name FROM blobs b JOIN jobs USING (number) WHERE {_NEEDED}"
        return set(self._database.execute(query, {"before": before}).fetchall())

    def expire(self, before: float, most: int) -> None:
        """Forget jobs that ended before that time, and the oldest of more than `most`, but never a result to fetch."""
        with self._change() as database:
            database.execute(f"DELETE FROM jobs WHERE NOT {_NEEDED}", {"before": before})
            database.execute(
                f"DELETE FROM jobs WHERE NOT {_OPEN} AND state != 'done' AND number NOT IN "
                "(SELECT number FROM jobs ORDER BY number DESC LIMIT ?)",
                (most,),
            )

    def _queued(self, owner: str) -> list[tuple[str, int]]:
        query = "SELECT job_id, place FROM jobs WHERE owner = ? AND state = 'queued' ORDER BY place, number"
        return self._database.execute(query, (owner,)).fetchall()

    def _note_blobs(self, owner: str, number: int, names: Iterable[str]) -> None:
        self._database.executemany(
            "INSERT OR IGNORE INTO blobs (owner, name, number) VALUES (?, ?, ?)",
            ((owner, name, number) for name in names),
        )

    def _note_all_blobs(self) -> None:
        for number, job_id, status in self._database.execute("SELECT number, job_id, status FROM jobs").fetchall():
            known, work = _readable(job_id, status), self.work(LOCAL, job_id)
            self._note_blobs(LOCAL, number, [*(work.blobs if work else []), *known.blobs])

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on disk when the block is left, or nothing."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            code = "disk-full" if error.sqlite_errorcode == sqlite3.SQLITE_FULL else "cannot-write"
            raise ProtocolError(
                code,
                f"The engine cannot write its journal ({error}).",
                "Make room on the disk that holds the engine's folder, and check that it may be written to.",
            ) from error


def _readable(job_id: str, status: bytes) -> JobStatus:
    """A status as it was written; an engine of another make may have written it so that it cannot be read."""
    try:
        return _status(status)
    except UNREADABLE:
        error = Failure("unreadable", "This job was noted by an engine of another make.", "Begin the edit again.")
        return JobStatus(job_id=job_id, state="failed", error=error)
