"""A Ray cluster's workers behind an engine: killed workers and nodes, late ones, a head that goes and comes back."""

from __future__ import annotations

import contextlib
import importlib.util
import signal

import pytest

if importlib.util.find_spec("ray") is None:  # not imported: that would come before its token is set
    pytest.skip("the extra 'ray' is not installed here (requirements/ray.txt)", allow_module_level=True)

from benchmarks.service import farm
from benchmarks.service.cluster import Farm
from benchmarks.service.kills import ended_with
from benchmarks.service.stage import Stage
from tests.service.harness import PATIENCE, finished, wait_until


@pytest.fixture(autouse=True)
def nothing_leaks():
    """In place of the check of other tests: Ray's helper for clusters keeps descriptors of its own in this process."""


@pytest.fixture
def stage(tmp_path) -> Stage:
    (tmp_path / "stage").mkdir()
    return Stage(tmp_path / "stage")


def device(connection) -> str:
    return connection.hello(timeout=PATIENCE).device


def test_whatever_is_killed_nothing_is_lost_or_doubled(tmp_path):
    found = farm.fault_rounds(tmp_path, rounds=2, seed=3, say=print, victims=("node", "head"))
    assert found.faults == []
    assert found.killed == {"node": 1, "head": 1}


def test_a_node_that_joins_late_gets_work(stage):
    with contextlib.ExitStack() as undo:
        cluster = undo.enter_context(Farm(1))
        engine = undo.enter_context(ended_with(stage.start("--pool", "ray", "--address", cluster.address)))
        connection = undo.enter_context(engine.connect())
        connection.submit("first", stage.settings(steps=999), stage.clip(2))
        connection.submit("second", stage.settings(), stage.clip(3))
        wait_until(lambda: connection.status("first").state == "running", "the only worker")
        assert connection.status("second").state == "queued"
        cluster.join()
        assert finished(connection, "second").state == "done"
        assert connection.status("first").state == "running"
        assert "2 workers" in device(connection)


def test_without_a_cluster_jobs_wait_and_say_for_what(stage):
    with ended_with(stage.start("--pool", "ray", "--address", "127.0.0.1:1")) as engine, engine.connect() as connection:
        connection.submit("waits", stage.settings(), stage.clip(2))
        status = connection.status("waits")
        assert status.state == "queued" and "Ray cluster" in status.waits
        assert "Ray cluster" in device(connection)
        assert connection.cancel("waits").state == "cancelled"
        assert engine.end(signal.SIGTERM) == 0


def test_a_machine_that_does_not_see_the_folder_gets_no_work(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("FATEZERO_SHARED", str(tmp_path / "not-mounted"))  # of the cluster's machines
    with Farm(1) as cluster, contextlib.ExitStack() as undo:
        monkeypatch.delenv("FATEZERO_SHARED")
        engine = undo.enter_context(ended_with(stage.start("--pool", "ray", "--address", cluster.address)))
        with engine.connect() as connection:
            connection.submit("waits", stage.settings(), stage.clip(2))
            wait_until(lambda: "cannot work" in connection.status("waits").waits, "its reason")
            assert "not-mounted" in connection.status("waits").waits
