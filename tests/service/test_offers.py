"""Frames that are sent before the job that names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protocol import files, limits, messages, wire
from protocol.connection import Connection
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, Engine, Raw, finished, wait_until

OF_BEFORE = """
import msgspec
from protocol import limits, messages, wire

said = limits.as_dict()
limits.as_dict = lambda: {name: value for name, value in said.items() if name != "offered_blobs"}
kinds = [kind for kind in messages.AnyMessage.__args__ if kind is not messages.Offer]
wire.decode = msgspec.msgpack.Decoder(__import__("functools").reduce(lambda some, kind: some | kind, kinds)).decode
"""
"""Makes the engine one that does not know of offers."""


class Stop(Exception):
    """An export that is called off."""


def chunks_of(connection: Connection, frames: list[Path]) -> int:
    """How many chunks sending them ahead takes."""
    sent = []
    assert connection.send_ahead(frames, lambda: sent.append(1))
    return len(sent)


def large(tmp_path: Path) -> Path:
    """A file of more chunks than are under way at a time."""
    path = tmp_path / "large.png"
    path.write_bytes(os.urandom((limits.TRANSFER_WINDOW + 4) * limits.CHUNK_BYTES))
    return path


def wanted(engine: Engine, *frames: Path) -> list[messages.Missing]:
    with Raw(engine.endpoint) as raw:
        return raw.ask(*wire.pack(messages.Offer(blobs=[files.digest(path) for path in frames]))).missing


def test_what_was_sent_ahead_is_not_sent_again(connection, settings, clip):
    frames, reports = clip(4, seed=7001), []
    assert chunks_of(connection, frames[:3]) == 3
    assert chunks_of(connection, frames[:3]) == 0, "nor where it is offered once more"
    connection.submit("offered", settings(), frames, on_sent=lambda *now: reports.append(now))
    assert reports == [(3, 4), (4, 4)]
    assert finished(connection, "offered").state == "done"


def test_many_frames_are_offered_a_few_at_a_time(connection, monkeypatch, clip):
    monkeypatch.setattr(connection, "_most_offered", 2)
    frames = clip(5, seed=7002)
    assert chunks_of(connection, frames) == 5 and chunks_of(connection, frames) == 0


def test_more_than_the_limit_are_refused(shared_engine):
    with Raw(shared_engine.endpoint) as raw:
        blobs = [f"{number:064x}" for number in range(limits.MAX_OFFERED_BLOBS + 1)]
        assert len(raw.ask(*wire.pack(messages.Offer(blobs=blobs[1:]))).missing) == limits.MAX_OFFERED_BLOBS
        for refused in (blobs, []):
            assert raw.ask(*wire.pack(messages.Offer(blobs=refused))).code == "malformed"


def test_an_upload_that_was_called_off_goes_on_with_the_job(connection, shared_engine, tmp_path):
    path = large(tmp_path)

    def stop():
        raise Stop

    with pytest.raises(Stop):
        connection.send_ahead([path], stop)
    there = limits.TRANSFER_WINDOW * limits.CHUNK_BYTES
    wait_until(lambda: wanted(shared_engine, path)[0].offset == there, "what was under way")
    assert chunks_of(connection, [path]) == 4
    assert wanted(shared_engine, path) == []


def test_frames_of_another_bytes_are_refused_as_ever(connection, monkeypatch, clip):
    (frame,) = clip(1, seed=7003)
    monkeypatch.setattr(files, "digest", lambda path: "0" * 64)
    with pytest.raises(ProtocolError) as refused:
        connection.send_ahead([frame])
    assert refused.value.code == "digest-mismatch"


def test_a_full_engine_says_so(start_engine, tmp_path, clip):
    engine = start_engine(tmp_path / "home", "--quota", "0.0001")
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        with pytest.raises(ProtocolError) as refused:
            connection.send_ahead(clip(1, 256, 256))
        assert refused.value.code == "store-full" and "--quota" in refused.value.remedy
    assert not engine.leftovers()


def test_a_worker_gets_ready_meanwhile(start_engine, clip):
    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        assert engine.workers() == []
        connection.send_ahead(clip(1))
        assert len(engine.workers()) == 1 and connection.jobs() == []


def test_what_was_sent_outlives_the_engine(start_engine, settings, clip):
    engine, frames, reports = start_engine(), clip(3), []
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        connection.send_ahead(frames[:2])
    engine.end()
    with start_engine().connect() as connection:
        connection.submit("after", settings(), frames, on_sent=lambda *now: reports.append(now))
        assert reports == [(2, 3), (3, 3)]
        assert finished(connection, "after").state == "done"


def test_an_older_engine_gets_everything_with_the_job(start_engine, settings, clip):
    engine, frames, reports = start_engine(before=OF_BEFORE), clip(2), []
    with Raw(engine.endpoint) as raw:
        assert raw.ask(*wire.pack(messages.Offer(blobs=["0" * 64]))).code == "malformed"
    with engine.connect() as connection:
        assert not connection.send_ahead(frames), "nothing is known of the engine before it is greeted"
        connection.hello(timeout=PATIENCE)
        assert not connection.send_ahead(frames)
        connection.submit("late", settings(), frames, on_sent=lambda *now: reports.append(now))
        assert reports[0] == (0, 2)
        assert finished(connection, "late").state == "done"
