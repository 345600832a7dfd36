"""The endpoint file: whole, private, and telling when it is of no use."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from protocol import endpoint
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolError

KEY = "k" * 40


def an_endpoint(**changes) -> Endpoint:
    values = dict(
        address="tcp://127.0.0.1:9", server_key=KEY, client_key=KEY, client_secret=KEY, pid=os.getpid(), engine="0.1.0"
    )
    return Endpoint(**(values | changes))


def test_what_is_written_is_read(tmp_path):
    endpoint.write(tmp_path, an_endpoint())
    assert endpoint.read(tmp_path) == an_endpoint()
    endpoint.write(tmp_path, an_endpoint(engine="0.2.0"))
    assert endpoint.read(tmp_path).engine == "0.2.0"
    assert [path.name for path in tmp_path.iterdir()] == [endpoint.FILE_NAME]


@pytest.mark.skipif(sys.platform == "win32", reason="the user's profile folder is private there")
def test_it_is_private_from_its_first_byte(tmp_path, monkeypatch):
    seen = []
    opened = os.open

    def watch(path, flags, mode=0o777, **more):
        descriptor = opened(path, flags, mode, **more)
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watch)
    old = os.umask(0)
    try:
        path = endpoint.write(tmp_path, an_endpoint())
    finally:
        os.umask(old)
    assert seen == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def refusal(tmp_path) -> ProtocolError:
    with pytest.raises(ProtocolError) as refused:
        endpoint.read(tmp_path)
    assert refused.value.sentence and refused.value.remedy
    return refused.value


def test_no_file_means_no_engine(tmp_path):
    assert refusal(tmp_path).code == "no-engine"


def test_the_file_of_a_process_that_is_gone_is_stale(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    endpoint.write(tmp_path, an_endpoint(pid=process.pid))
    error = refusal(tmp_path)
    assert error.code == "no-engine"
    assert str(process.pid) in error.sentence


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[1,2", b'{"address": 3}', b'{"server_key": "short"}'])
def test_a_damaged_file_is_said_to_be(tmp_path, content):
    (tmp_path / endpoint.FILE_NAME).write_bytes(content)
    assert refusal(tmp_path).code == "endpoint-damaged"


def test_something_unreadable_is_said_to_be(tmp_path):
    (tmp_path / endpoint.FILE_NAME).mkdir()
    assert refusal(tmp_path).code == "cannot-read"


def test_processes_are_told_apart():
    assert endpoint.process_runs(os.getpid())
    assert not endpoint.process_runs(0)
    assert not endpoint.process_runs(2**31 - 1)


def test_removing_twice_is_harmless(tmp_path):
    endpoint.write(tmp_path, an_endpoint())
    endpoint.remove(tmp_path)
    endpoint.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []
