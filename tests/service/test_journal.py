"""The journal: what is noted stays, in order, and each owner's apart."""

from __future__ import annotations

import time

import pytest

from engine.service.journal import Journal
from engine.service.pipes import Work
from protocol.messages import Failure, JobStatus
from protocol.settings import EditSettings

SETTINGS = EditSettings(source="a ball", target="a cube")


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite3")
    yield journal
    journal.close()


def add(journal: Journal, *job_ids: str, owner: str = "me", frames: tuple[str, ...] = ()) -> None:
    for job_id in job_ids:
        journal.add(Work(job_id=job_id, settings=SETTINGS, frames=list(frames), fps=24.0, owner=owner))


def ended(state: str, job_id: str, **fields) -> JobStatus:
    return JobStatus(job_id=job_id, state=state, **fields)


def test_jobs_keep_their_order_and_may_be_moved(journal):
    add(journal, "a", "b", "c", "d")
    for job_id, before, order in (
        ("d", "b", "adbc"),
        ("a", None, "dbca"),
        ("a", "d", "adbc"),
        ("c", "d", "acdb"),
        ("c", "gone", "adbc"),
    ):
        journal.move("me", job_id, before)
        assert "".join(journal.queued("me")) == order
    journal.set("me", ended("paused", "d"))
    assert journal.queued("me") == ["a", "b", "c"]
    journal.set("me", ended("queued", "d"))
    assert journal.queued("me") == ["a", "d", "b", "c"], "a paused job comes back to its place"


def test_jobs_may_be_moved_as_often_as_anybody_drags(journal):
    add(journal, "a", "b", "c")
    for turn in range(200):
        journal.move("me", "cb"[turn % 2], "bc"[turn % 2])
        assert journal.queued("me") == ["a", *("cb" if turn % 2 == 0 else "bc")]


def test_owners_are_apart(journal):
    add(journal, "same", "other")
    add(journal, "same", owner="you")
    journal.set("you", ended("cancelled", "same"))
    assert journal.status("me", "same").state == "queued"
    assert (journal.count("me"), journal.count("you"), journal.count()) == (2, 0, 2)
    assert {one.owner for one in journal.asking()} == {"me"}
    assert journal.newest("me", 10) == ["same", "other"] and journal.newest("me", 1) == ["other"]
    journal.remove("me", "same")
    assert journal.status("me", "same") is None and journal.status("you", "same").state == "cancelled"


def test_what_is_needed_is_never_named_as_droppable(journal):
    """Frames of a job that may still run, and a result that was not fetched; whatever the clock says."""
    add(journal, "open", frames=("of open", "shared"))
    add(journal, "unfetched", frames=("of unfetched",))
    add(journal, "taken", frames=("of taken", "shared"))
    add(journal, "failed", frames=("of failed",))
    journal.set("me", ended("done", "unfetched", frames=["result"], masks={"ball": ["mask"]}))
    journal.set("me", ended("done", "taken", frames=["old result"], taken=True))
    journal.set("me", ended("failed", "failed", error=Failure("x", "y")))
    always = {"of open", "shared", "of unfetched", "result", "mask"}
    lately = {"of taken", "old result", "of failed"}
    now = time.time()
    for before, expected in (
        (now - 60, always | lately),
        (now + 60, always),
        (now + 10**9, always),
        (float("inf"), always),
        (-(10.0**9), always | lately),
    ):
        assert journal.needed(before) == {("me", name) for name in expected}
    journal.expire(now + 60, most=100)
    assert journal.newest("me", 10) == ["open", "unfetched"]
    assert journal.needed(0) == {("me", name) for name in always}, "with a job goes what it needed"


def test_only_so_many_ended_jobs_are_known(journal):
    add(journal, "open")
    for number in range(8):
        add(journal, f"job-{number}")
        journal.set("me", ended("cancelled", f"job-{number}"))
    journal.expire(0, most=3)
    assert journal.newest("me", 10) == ["open", "job-5", "job-6", "job-7"]


def test_a_note_that_cannot_be_read_is_a_failed_job(journal, tmp_path):
    add(journal, "odd", "fine")
    journal._database.execute("UPDATE jobs SET status = x'c1', work = x'c1' WHERE job_id = 'odd'")
    assert journal.work("me", "odd") is None
    status = journal.status("me", "odd")
    assert (status.state, status.error.code) == ("failed", "unreadable") and status.error.remedy
    assert journal.work("me", "fine").settings == SETTINGS


def test_what_is_noted_is_there_after_a_restart(journal, tmp_path):
    frame, result = "f" * 64, "e" * 64
    add(journal, "a", frames=(frame,))
    journal.set("me", ended("done", "a", frames=[result]))
    again = Journal(tmp_path / "journal.sqlite3")
    assert again.status("me", "a") == ended("done", "a", frames=[result])
    assert again.work("me", "a").frames == [frame]
    again.close()
