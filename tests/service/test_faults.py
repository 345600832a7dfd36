"""Workers that die, hang, or run out of memory: the job goes on from its checkpoint once, and others are not touched."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.service.harness import PATIENCE, finished, gone, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def edited(connection, settings, frames, job_id: str, out, disturb=None, **changes) -> tuple:
    """Status and frames' bytes of an edit that `disturb` is let loose on once it denoises."""
    connection.submit(job_id, settings(**changes), frames)
    if disturb:
        wait_until(lambda: connection.status(job_id).stage in ("invert", "edit"), "the first steps")
        disturb()
    status = finished(connection, job_id)
    assert status.state == "done", status.error
    return status, [path.read_bytes() for path in connection.fetch(job_id, out / job_id).frames]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_a_dead_workers_job_goes_on_and_comes_out_the_same(shared_engine, connection, settings, clip, tmp_path, number):
    frames = clip(2, seed=number)
    disturbed, first = edited(
        connection,
        settings,
        frames,
        f"killed-{number}",
        tmp_path,
        disturb=lambda: os.kill(shared_engine.workers()[-1], number),
        steps=60,
    )
    assert any(f"signal {int(number)}" in note and "went on" in note for note in disturbed.notes)
    connection.forget(f"killed-{number}")
    _, second = edited(connection, settings, frames, f"undisturbed-{number}", tmp_path, steps=60)
    assert first == second
    assert not shared_engine.leftovers()


def test_a_worker_that_dies_twice_at_one_place_costs_its_job_only(
    shared_engine, connection, settings, clip, start_endless
):
    frames = clip(1)
    start_endless(connection, "poison", frames)
    connection.submit("honest", settings(), frames)
    first = shared_engine.workers()[-1]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: shared_engine.workers()[-1] != first, "another worker")
    os.kill(shared_engine.workers()[-1], signal.SIGKILL)
    status = finished(connection, "poison")
    assert (status.state, status.error.code) == ("failed", "worker-died")
    assert "signal 9" in status.error.sentence and status.error.remedy
    assert finished(connection, "honest").state == "done"
    assert connection.retry("poison").state in ("queued", "running"), "whoever has made room may try again"
    connection.cancel("poison")


def test_a_worker_that_hangs_is_replaced(start_engine, settings, clip, tmp_path):
    engine = start_engine(tmp_path / "home", "--step-limit", "20")
    with engine.connect() as connection:
        pings = []

        def hang():
            os.kill(engine.workers()[-1], signal.SIGSTOP)
            pings.extend(connection.ping(timeout=PATIENCE) for _ in range(20))

        status, _ = edited(connection, settings, clip(1), "hangs", tmp_path, disturb=hang, steps=60)
        assert any("did not finish a step" in note for note in status.notes)
        assert sorted(pings)[10] < 0.25
        assert len(engine.workers()) == 2 and gone(engine.workers()[0])
        assert engine.logged("worker hangs")


def test_cancelling_reaches_a_worker_that_was_replaced(shared_engine, connection, clip, start_endless):
    start_endless(connection, "stubborn", clip(1))
    os.kill(shared_engine.workers()[-1], signal.SIGKILL)
    connection.cancel("stubborn")
    assert finished(connection, "stubborn").state == "cancelled"
