"""How long a local engine lives: as long as somebody needs it, by the user's setting."""

from __future__ import annotations

import time

import pytest

from engine.service.server import ALONE_SECONDS
from protocol import endpoint
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, finished


def still_there(engine, seconds: float) -> bool:
    """Whether the engine has not ended for so long."""
    time.sleep(seconds)
    return engine.process.poll() is None


def test_it_ends_with_the_last_program_that_needs_it(start_engine, tmp_path):
    """Two Blenders share it: the one that started it may go first."""
    engine = start_engine(tmp_path / "home", "--exit-with-parent")
    with engine.connect() as other:
        other.hello(timeout=PATIENCE)
        engine.process.stdin.close()
        assert still_there(engine, ALONE_SECONDS + 2)
        assert other.ping(timeout=PATIENCE) < PATIENCE
    assert engine.ended() == 0
    assert not (engine.home / endpoint.FILE_NAME).exists()


def test_it_finishes_the_queue_first_where_that_is_asked_for(start_engine, tmp_path, settings, clip):
    engine = start_engine(tmp_path / "home", "--exit-with-parent", "--when-alone", "after-queue")
    frames = clip(1)
    with engine.connect() as connection:
        connection.submit("one", settings(steps=100), frames)
        connection.submit("two", settings(), frames)
    engine.process.stdin.close()
    assert engine.ended() == 0
    again = start_engine()
    with again.connect() as connection:
        assert [(status.job_id, status.state) for status in connection.jobs()] == [("one", "done"), ("two", "done")]


def test_the_setting_can_be_changed_while_it_runs(start_engine, tmp_path):
    engine = start_engine(tmp_path / "home", "--exit-with-parent", "--when-alone", "never")
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
    engine.process.stdin.close()
    assert still_there(engine, ALONE_SECONDS + 2)
    with engine.connect() as connection:
        connection.when_alone("at-once")
    assert engine.ended() == 0


def test_an_engine_of_its_own_stays_until_it_is_told_to_end(start_engine, tmp_path):
    engine = start_engine()
    assert still_there(engine, ALONE_SECONDS + 2)
    with engine.connect() as connection:
        connection.shutdown(timeout=PATIENCE)
        assert engine.ended() == 0
        with pytest.raises(ProtocolError) as lost:
            connection.ping(timeout=PATIENCE)
        assert lost.value.code == "connection-lost"


def test_work_that_was_left_goes_on_with_the_next_engine(start_engine, tmp_path, start_endless):
    engine = start_engine(tmp_path / "home", "--exit-with-parent")
    with engine.connect() as connection:
        start_endless(connection, "left")
    engine.process.stdin.close()
    assert engine.ended() == 0
    again = start_engine()
    with again.connect() as connection:
        assert connection.status("left").state in ("queued", "running")
        connection.cancel("left")
        assert finished(connection, "left").state == "cancelled"
