"""Frames of a result that are fetched while the engine still makes the later ones."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress

import pytest

from protocol import limits
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, Engine, finished, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

FRAMES = 12
"""More than go through the autoencoder together; large ones, so that it takes a while to write them."""


@contextmanager
def halted(engine: Engine, connection, job_id: str):
    """The job once some of its frames are made and others are not: its worker stands still meanwhile."""
    wait_until(lambda: (status := connection.status(job_id)).final or status.written, "the first frames", 3 * PATIENCE)
    worker = engine.workers()[-1]
    os.kill(worker, signal.SIGSTOP)
    try:
        status = connection.status(job_id)
        assert (status.state, status.frames) == ("running", []), "names come to who asks for them"
        assert 0 < status.written < FRAMES
        yield status
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def test_frames_that_are_made_are_named_and_fetched_at_once(connection, shared_engine, settings, clip, tmp_path):
    frames, ahead, reports = clip(FRAMES, 512, 512, seed=7101), tmp_path / "ahead", []
    connection.submit("streams", settings(steps=1), frames)
    with halted(shared_engine, connection, "streams") as status:
        names = connection.written("streams", 0)
        assert len(names) == min(status.written, limits.TRANSFER_WINDOW)
        assert connection.written("streams", 1)[: len(names) - 1] == names[1:]
        assert connection.written("streams", FRAMES) == []
        connection.fetch_ahead(names, ahead)
        assert sorted(path.name for path in ahead.iterdir()) == sorted(set(names))
    done = finished(connection, "streams")
    assert done.state == "done" and done.frames[: len(names)] == names
    assert connection.written("streams", 0) == [], "a job that is done says all of them"
    (ahead / names[0]).write_bytes(b"what something else has left there")
    fetched = connection.fetch("streams", tmp_path / "out", lambda *now: reports.append(now), ahead=ahead)
    assert reports[0][0] == 1 and reports[len(set(names)) - 2][0] == len(set(names)) - 1, "these were here"
    plain = connection.fetch("streams", tmp_path / "plain")
    assert [path.read_bytes() for path in fetched.frames] == [path.read_bytes() for path in plain.frames]


def test_a_worker_that_dies_begins_to_count_anew(start_engine, settings, clip, tmp_path):
    engine = start_engine()
    with engine.connect() as connection:
        connection.submit("dies", settings(steps=1), clip(FRAMES, 512, 512, seed=7102))
        with halted(engine, connection, "dies"):
            names = connection.written("dies", 0)
            os.kill(engine.workers()[-1], signal.SIGKILL)
            wait_until(lambda: len(engine.workers()) == 2, "another worker")
            assert connection.status("dies").written == 0
            assert connection.written("dies", 0) == []
        done = wait_until(lambda: (status := connection.status("dies")).final and status, "its end", 3 * PATIENCE)
        assert done.state == "done" and done.frames[: len(names)] == names, "in the same bits"


def test_what_is_not_there_is_refused(connection, tmp_path):
    with pytest.raises(ProtocolError) as refused:
        connection.written("unknown-streams", 0)
    assert refused.value.code == "no-such-job"
    with pytest.raises(ProtocolError) as refused:
        connection.fetch_ahead(["0" * 64], tmp_path / "ahead")
    assert refused.value.code == "no-such-blob"
