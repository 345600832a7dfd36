"""What becomes of jobs, with workers that say what a test has them say: all else is the server's own, on a real disk."""

from __future__ import annotations

import errno
import os
import subprocess
import time

import pytest

from engine.service import retention as retentions
from engine.service.accounts import LOCAL, Accounts
from engine.service.dispatch import Dispatch
from engine.service.giving_way import GivingWay
from engine.service.home import Home
from engine.service.jobs import Jobs
from engine.service.journal import Journal
from engine.service.pipes import Failed, Finished, Stop, Work
from engine.service.pool import LocalPool
from engine.service.retention import Retention
from engine.service.store import Store
from engine.service.table import Table
from engine.service.turns import Turns
from engine.service.workers import FromWorker, WorkerOptions
from protocol import models
from protocol.errors import ProtocolError
from protocol.keys import KeyPair
from protocol.settings import EditSettings

LONG = 32
"""Frames: two parts."""
QUOTA = 10_000
RESULT = 500
"""Bytes of a part's result."""


class Worker:
    """At a place; what it was told stays in `told`."""

    def __init__(self, place: str):
        self.name = self.pid = f"worker-{place}"
        self.told = []

    def send(self, message) -> None:
        self.told.append(message)

    def memory(self) -> int:
        return 0

    def end(self) -> int:
        return 0

    @property
    def work(self) -> Work:
        """What it was given last."""
        return next(message for message in reversed(self.told) if isinstance(message, Work))


class Places:
    """A pool of two places."""

    memory_share, trouble, places = 1.0, "", ("one", "two")

    def __init__(self):
        self.workers = {}

    def start(self, place: str) -> Worker:
        self.workers[place] = Worker(place)
        return self.workers[place]

    def close(self) -> None:
        pass


class Service:
    """An engine's jobs, without its sockets."""

    def __init__(self, home):
        self.store, self.journal, self.pool = Store(home), Journal(home / "journal.sqlite3"), Places()
        self.retention = Retention(home, self.journal, self.store, Accounts(home, KeyPair.make().public), QUOTA)
        turns = Turns()
        giving_way = GivingWay(turns)
        self.table = Table(self.journal, self.pool, giving_way, lambda owner, status: None)
        self.dispatch = Dispatch(
            home, self.table, self.journal, self.store, self.retention, self.pool, turns, giving_way,
            lambda owner, preview: None, 900.0,
        )  # fmt: skip
        self.jobs = Jobs(home, self.table, self.dispatch, self.journal, self.store, self.retention)

    def submit(self, frames: int) -> None:
        names = [self.store.put(LOCAL, bytes([number])) for number in range(frames)]
        self.jobs.submit(Work(job_id="job", settings=EditSettings(source="a", target="b"), frames=names, fps=24.0))

    def says(self, place: str, message) -> None:
        self.dispatch.receive(FromWorker(self.pool.workers[place], message))

    def finishes(self, place: str) -> str:
        """Have the worker put a result of one blob in the store and say so; the blob's name."""
        part = self.pool.workers[place].work.part
        name = self.store.put(LOCAL, bytes([part.first if part else 255]) * RESULT)
        self.says(place, Finished(job_id="job", frames=[name], masks={}, notes=[], timings={}))
        return name

    def ages(self, name: str) -> None:
        """As where all that is left takes hours."""
        long_ago = time.time() - 2 * retentions.KEEP_SECONDS
        os.utime(self.store.path(LOCAL, name), (long_ago, long_ago))

    def has(self, name: str) -> bool:
        return self.store.path(LOCAL, name).exists()


@pytest.fixture
def service(tmp_path, checkpoint):
    models.register(tmp_path, checkpoint)
    service = Service(tmp_path)
    yield service
    service.journal.close()


@pytest.mark.parametrize("press", ["admit", "sweep"])
def test_a_part_that_is_done_stays_until_the_others_are(service, press):
    service.submit(LONG)
    first = service.finishes("one")
    service.ages(first)
    if press == "admit":
        with pytest.raises(ProtocolError, match="as many frames"):
            service.retention.admit(LOCAL, QUOTA)
    else:
        service.retention.sweep()
    assert service.has(first)
    second = service.finishes("two")
    status = service.jobs.status(LOCAL, "job")
    assert (status.state, status.frames) == ("done", [first, second])


def test_a_part_whose_result_is_gone_is_made_again_before_the_job_is_done(service):
    service.submit(LONG)
    parts = {place: worker.work.part for place, worker in service.pool.workers.items()}
    first = service.finishes("one")
    service.store.remove(LOCAL, first)
    second = service.finishes("two")
    assert service.jobs.status(LOCAL, "job").state == "running"
    (place,) = {task.place for run in service.table.runs.values() for task in run.active}
    assert service.pool.workers[place].work.part == parts["one"]
    assert service.finishes(place) == first
    status = service.jobs.status(LOCAL, "job")
    assert (status.state, status.frames) == ("done", [first, second]) and service.has(first)
    assert [note for note in status.notes if "made again" in note]


def test_a_result_that_is_gone_each_time_is_an_error_in_words(service):
    service.submit(LONG)
    first = service.finishes("one")
    service.store.remove(LOCAL, first)
    service.finishes("two")
    (place,) = {task.place for run in service.table.runs.values() for task in run.active}
    name = service.store.put(LOCAL, b"never kept")
    service.store.remove(LOCAL, name)
    service.says(place, Finished(job_id="job", frames=[name], masks={}, notes=[], timings={}))
    status = service.jobs.status(LOCAL, "job")
    assert (status.state, status.error.code) == ("failed", "result-lost") and "twice" in status.error.sentence
    assert service.jobs.idle
    service.jobs.retry(LOCAL, "job")
    assert service.jobs.status(LOCAL, "job").state == "running", "and it can be tried again"


def test_a_job_that_pauses_as_its_result_is_found_gone_stays_paused(service):
    service.submit(LONG)
    first = service.finishes("one")
    service.store.remove(LOCAL, first)
    service.jobs.pause(LOCAL, "job")
    service.finishes("two")
    assert service.jobs.status(LOCAL, "job").state == "paused"
    service.jobs.resume(LOCAL, "job")
    assert service.jobs.status(LOCAL, "job").state == "running"


@pytest.mark.parametrize("ask", ["cancel", "pause", "forget"])
@pytest.mark.parametrize("code", ["memory", "out-of-memory"])
def test_a_job_that_nobody_wants_ends_where_its_memory_runs_out(service, ask, code):
    """Its worker says so before it has heard that it shall stop."""
    service.submit(1)
    getattr(service.jobs, ask)(LOCAL, "job")
    assert isinstance(service.pool.workers["one"].told[-1], Stop)
    service.says("one", Failed(job_id="job", code=code, sentence="The clip is too large."))
    if ask == "forget":
        with pytest.raises(ProtocolError, match="no job"):
            service.jobs.status(LOCAL, "job")
    else:
        assert service.jobs.status(LOCAL, "job").state == {"cancel": "cancelled", "pause": "paused"}[ask]
    assert service.jobs.idle and not service.table.runs
    if ask == "pause":
        service.jobs.resume(LOCAL, "job")
        assert service.jobs.status(LOCAL, "job").state == "running"


def test_a_job_that_is_wanted_is_tried_again_with_less_memory(service):
    service.submit(1)
    service.says("one", Failed(job_id="job", code="memory", sentence="The clip is too large."))
    assert service.pool.workers["one"].work.memory_share == 0.5
    service.finishes("one")
    status = service.jobs.status(LOCAL, "job")
    assert status.state == "done" and [note for note in status.notes if "less at a time" in note]


def test_results_that_nobody_fetches_fill_the_room_that_there_is_and_no_more(service):
    """Frames that are there are edited again and again without an upload, which would be refused."""
    frame, made = service.store.put(LOCAL, b"frame"), 0
    service.retention.count(LOCAL, [frame])
    with pytest.raises(ProtocolError) as refused:
        for number in range(30):
            settings = EditSettings(source="a", target=f"b {number}")
            service.jobs.submit(Work(job_id=f"unfetched-{number}", settings=settings, frames=[frame], fps=24.0))
            result = service.store.put(LOCAL, bytes([number]) * (QUOTA // 10))
            done = Finished(job_id=f"unfetched-{number}", frames=[result], masks={}, notes=[], timings={})
            service.says("one", done)
            made += 1
    assert refused.value.code == "store-full" and made == 10
    for number in range(made):
        service.jobs.taken(LOCAL, f"unfetched-{number}")
        service.ages(service.jobs.status(LOCAL, f"unfetched-{number}").frames[0])
    settings = EditSettings(source="a", target="b")
    assert service.jobs.submit(Work(job_id="room", settings=settings, frames=[frame], fps=24.0)).state == "running"


def test_jobs_wait_where_no_worker_can_be_started(service, monkeypatch):
    """A moment without memory or descriptors must not fail the whole queue, one job after the other."""

    def fails(place):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patch:
        patch.setattr(service.pool, "start", fails)
        service.submit(1)
        service.dispatch.advance()
        assert service.jobs.status(LOCAL, "job").state == "queued"
    service.dispatch.advance()
    service.finishes("one")
    assert service.jobs.status(LOCAL, "job").state == "done"


def test_a_pool_says_why_no_worker_can_be_started_and_forgets_it(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    home = Home(tmp_path / "home")
    pool = LocalPool(home, WorkerOptions(("cpu",)), lambda said: None)
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", fails)
        with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
            pool.start("cpu")
    assert os.strerror(errno.EAGAIN) in pool.trouble
    pool.start("cpu").end()
    home.close()
    assert not pool.trouble
