"""Clients, workers and servers that do anything in any order: no accepted job is lost, doubled, or comes out otherwise.

Few and short examples; `FATEZERO_EXAMPLES=100 python build.py test tests/service/test_state_machine.py` runs so many.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.service.kills import ended_with, result_of
from benchmarks.service.stage import Stage
from protocol import files, messages, wire
from protocol.errors import ProtocolError
from protocol.messages import JobStatus
from tests.service.harness import PATIENCE, Raw, finished, gone, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

EXAMPLES = int(os.environ.get("FATEZERO_EXAMPLES", "4"))
STEPS = 20
"""Of denoising, in each job: enough to be disturbed in their midst."""
NUMBERS = range(3)
numbers = st.sampled_from(NUMBERS)

LIVE = {"queued", "running"}
ASKED = {"cancel": "cancelled", "pause": "paused"}
ALSO = {
    "cancel": {"queued": {"cancelled"}, "running": {"cancelled", "running"}, "paused": {"cancelled"}},
    "pause": {"queued": {"paused"}, "running": {"paused", "running"}},
    "resume": {"paused": LIVE, "running": LIVE},
    "retry": {"failed": LIVE, "cancelled": LIVE},
}
"""What a request may make of a job in each state, at once; otherwise it only changes as jobs do by themselves."""


class Service(RuleBasedStateMachine):
    """One example: three jobs of a client's on an engine of their own, and what the client knows of them."""

    right: dict[int, list[bytes]]
    """The results of jobs that nobody disturbs."""

    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="fatezero-states-")
        self._stage = Stage(Path(self._folder.name))
        self._engine = self._stage.start()
        self._connection = self._engine.connect()
        self._connection.hello(timeout=PATIENCE)
        self._seen: dict[int, str] = {}
        """The state in which each accepted job was seen last."""
        self._wish: dict[int, str] = {}
        """What running jobs were asked to become."""
        self._killed: set[str] = set()

    def teardown(self):
        """In the end all jobs that were not called off are done, and nothing is left of anything."""
        try:
            for number in [number for number, state in self._seen.items() if state == "paused"]:
                self._request("resume", number)
            for number in list(self._seen):
                self._finish(number)
            self._connection.close()
            self._check_journal()
            assert self._engine.end(signal.SIGTERM) == 0, self._engine.log.read_text()
            assert not self._engine.leftovers()
            assert "Traceback" not in self._engine.log.read_text()
        finally:
            self._connection.close()
            if not gone(self._engine.process.pid):
                self._engine.end()
            self._folder.cleanup()

    @initialize()
    def first(self):
        """There is something to disturb."""
        self.submit(0)

    @rule(number=numbers)
    def submit(self, number):
        status = self._connection.submit(name(number), self._stage.settings(steps=STEPS), self._clip(number))
        if number in self._seen:
            self._look(number, status)
        else:
            assert status.state in LIVE
            self._seen[number] = status.state

    @rule(number=numbers, how=st.sampled_from(["half", "wrong", "displaced", "repeated"]))
    def upload(self, number, how):
        path = self._clip(number)[0]
        blob, data = files.digest(path), path.read_bytes()
        half = len(data) // 2
        pieces = {
            "half": [(0, data[:half])],
            "wrong": [(0, bytes(half)), (half, data[half:])],
            "displaced": [(half, data[half:])],
            "repeated": [(0, data[:half]), (0, data[:half]), (half, data[half:]), (half, data[half:])],
        }[how]
        with Raw(self._engine.endpoint) as raw:
            for offset, piece in pieces:
                answer = raw.ask(*wire.pack(messages.Upload(blob=blob, size=len(data), offset=offset), piece))
                assert isinstance(answer, messages.Stored) or answer.code == "digest-mismatch"

    @rule(number=numbers)
    def cancel(self, number):
        self._request("cancel", number)

    @rule(number=numbers)
    def pause(self, number):
        self._request("pause", number)

    @rule(number=numbers)
    def resume(self, number):
        self._request("resume", number)

    @rule(number=numbers)
    def retry(self, number):
        self._request("retry", number)

    @rule(number=numbers, before=st.none() | numbers)
    def move(self, number, before):
        if before is not None and before not in self._seen:
            self._refused("no-such-job", lambda: self._connection.move(name(number), name(before)))
        else:
            self._request("move", number, *([] if before is None else [name(before)]))

    @rule(number=numbers)
    def take(self, number):
        if self._seen.get(number) == "done":
            assert self._connection.taken(name(number)).taken
        elif number not in self._seen:
            self._refused("no-such-job", lambda: self._connection.taken(name(number)))

    @rule(number=numbers)
    def forget(self, number):
        self._connection.forget(name(number))
        self._seen.pop(number, None)
        self._wish.pop(number, None)

    @rule(number=numbers)
    def finish(self, number):
        if self._seen.get(number) in LIVE:
            self._finish(number)

    @precondition(lambda self: "worker" not in self._killed)
    @rule()
    def kill_worker(self):
        """Once: a job that two workers die of at one place fails, as it should."""
        self._killed.add("worker")
        for pid in self._engine.workers()[-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: gone(pid), "the worker's end")

    @precondition(lambda self: "server" not in self._killed)
    @rule()
    def kill_server(self):
        self._killed.add("server")
        self._engine.end(signal.SIGKILL)
        self._connection.close()
        self._check_journal()
        self._engine = self._stage.start()
        assert not self._engine.leftovers()
        self.come_back()

    @rule()
    def come_back(self):
        """A client goes and another one comes."""
        self._connection.close()
        self._connection = self._engine.connect()
        self._connection.hello(timeout=PATIENCE)

    @invariant()
    def every_accepted_job_is_there_once(self):
        statuses = self._connection.jobs()
        assert sorted(status.job_id for status in statuses) == sorted(map(name, self._seen))
        for status in statuses:
            self._look(int(status.job_id.removeprefix("job-")), status)

    def _request(self, kind: str, number: int, *arguments: str) -> None:
        ask: Callable[..., JobStatus] = getattr(self._connection, kind)
        if number not in self._seen:
            self._refused("no-such-job", lambda: ask(name(number), *arguments))
            return
        also = ALSO.get(kind, {})
        self._look(number)  # what has happened by itself
        before = self._seen[number]
        status = ask(name(number), *arguments)
        self._look(number, status, also.get(before, set()))
        wish = self._wish.get(number)
        if status.state == "running" and kind in ASKED and wish != "cancelled":
            self._wish[number] = ASKED[kind]
        elif (kind, wish) in (("resume", "paused"), ("retry", "cancelled")):
            del self._wish[number]

    def _look(self, number: int, status: JobStatus | None = None, also: set[str] = frozenset()) -> None:
        """The job's state is the last one, `also` one of these, or one that it comes to by itself."""
        status = status or self._connection.status(name(number))
        before, wish = self._seen[number], self._wish.get(number)
        may = {before, *also}
        if may & LIVE:
            may |= LIVE | {wish or "done"} | ({"done"} if wish == "paused" else set())
        assert status.state in may, f"{name(number)} was {before}, is {status.state} ({status.error})"
        self._seen[number] = status.state
        if status.state not in LIVE:
            self._wish.pop(number, None)

    def _finish(self, number: int) -> None:
        """Wait for the job's end, unless it waits to be resumed; a result is what it should be, until it is taken."""
        job_id = name(number)
        if self._wish.get(number) == "paused":
            wait_until(lambda: self._connection.status(job_id).state in ("paused", "done"), "its pausing")
        self._look(number)
        if self._seen[number] == "paused":
            return
        status = finished(self._connection, job_id)
        self._look(number, status)
        if status.state == "done":
            found = result_of(self._connection, job_id, Path(self._folder.name) / "found" / job_id)
            assert found == self.right[number], f"{job_id} came out otherwise"

    def _refused(self, code: str, ask: Callable[[], object]) -> None:
        with pytest.raises(ProtocolError) as refused:
            ask()
        assert refused.value.code == code

    def _check_journal(self) -> None:
        with contextlib.closing(sqlite3.connect(self._stage.home / "journal.sqlite3")) as journal:
            assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for path in (self._stage.home / "blobs").glob("*/*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name

    def _clip(self, number: int) -> list[Path]:
        return self._stage.clip(1, seed=number)


def name(number: int) -> str:
    """A job's id."""
    return f"job-{number}"


@pytest.fixture
def right(tmp_path) -> Iterator[dict[int, list[bytes]]]:
    """The jobs' results from an engine that nobody disturbs."""
    stage = Stage(tmp_path)
    with ended_with(stage.start()) as engine, engine.connect() as connection:
        for number in NUMBERS:
            connection.submit(name(number), stage.settings(steps=STEPS), stage.clip(1, seed=number))
        yield {
            number: result_of(connection, finished(connection, name(number)).job_id, tmp_path / name(number))
            for number in NUMBERS
        }


def test_whatever_happens_no_accepted_job_is_lost_doubled_or_spoilt(right):
    Service.right = right
    run_state_machine_as_test(
        Service,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            database=None,
            print_blob=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
