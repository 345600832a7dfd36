"""Ends that nobody asked for: killed servers, vanished parents, full disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from protocol import endpoint
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, REPOSITORY, finished, gone, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and mounts of Unix")


def test_a_killed_server_forgets_no_job(start_engine, start_endless, settings, clip, tmp_path):
    frames = clip(2)
    first = start_engine()
    with first.connect() as connection:
        start_endless(connection, "running", frames)
        connection.submit("waiting", settings(), frames)
        start = connection.submit("cancelled", settings(), frames)
        assert start.state == "queued"
        connection.cancel("cancelled")
        first.end(signal.SIGKILL)
        with pytest.raises(ProtocolError) as lost:
            connection.status("running")
        assert lost.value.code == "connection-lost" and lost.value.remedy
    with pytest.raises(ProtocolError) as stale:
        endpoint.read(first.home)
    assert stale.value.code == "no-engine"

    second = start_engine()
    assert not second.leftovers()
    with second.connect() as connection:
        states = {status.job_id: status.state for status in connection.jobs()}
        assert states == {"running": "running", "waiting": "queued", "cancelled": "cancelled"}
        assert connection.submit("waiting", settings(), frames).state == "queued"
        connection.cancel("running")
        assert finished(connection, "running").state == "cancelled"
        assert finished(connection, "waiting").state == "done"
        assert len(connection.fetch("waiting", tmp_path / "out").frames) == 2
    assert second.end(signal.SIGTERM) == 0

    third = start_engine()
    with third.connect() as connection:
        assert connection.status("waiting").state == "done"
        assert len(connection.fetch("waiting", tmp_path / "again").frames) == 2


def test_a_vanished_parent_takes_server_and_worker_along(start_engine, start_endless, tmp_path):
    engine = start_engine(tmp_path / "home", "--exit-with-parent")
    with engine.connect() as connection:
        start_endless(connection, "busy")
    assert len(engine.workers()) == 1
    engine.process.stdin.close()
    assert engine.ended() == 0
    assert not engine.leftovers()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_killed_server_takes_even_a_hanging_worker_along(start_engine, start_endless):
    engine = start_engine()
    with engine.connect() as connection:
        start_endless(connection, "hangs")
        os.kill(engine.workers()[-1], signal.SIGSTOP)
        engine.end(signal.SIGKILL)
    assert gone(engine.workers()[-1])


def test_a_killed_parent_takes_the_engine_along(tmp_path):
    """The parent gets no chance to say anything, as when Blender crashes."""
    program = f"""
import subprocess, sys, time
command = [sys.executable, "-m", "engine.service.server", "--home", {str(tmp_path / "home")!r}, "--exit-with-parent"]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:
    engine.stdout.readline()
    print(engine.pid, flush=True)
    time.sleep({PATIENCE})
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid), "the engine's end")
    assert not (tmp_path / "home" / endpoint.FILE_NAME).exists()


LIMIT = 512 * 1024
SMALL_FILES = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))"
"""No file may grow over the limit, as if the disk ended there."""


def test_files_that_may_not_grow_fail_their_request_only(start_engine, settings, clip, tmp_path):
    engine = start_engine(tmp_path / "home", before=SMALL_FILES)
    noise = clip(1, 512, 512)
    assert noise[0].stat().st_size > LIMIT
    plain = clip(1, 1280, 1280, flat=True)
    assert plain[0].stat().st_size < LIMIT
    with engine.connect() as connection:
        with pytest.raises(ProtocolError) as refused:
            connection.submit("upload", settings(), noise)
        assert refused.value.code == "disk-full" and refused.value.remedy
        assert not engine.leftovers()
        connection.submit("result", settings(), plain)
        status = finished(connection, "result")
        assert (status.state, status.error and status.error.code) == ("failed", "disk-full")
        assert not engine.leftovers()
        connection.submit("small", settings(), clip(1))
        assert finished(connection, "small").state == "done"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of few megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def read_only():
    """Make files and folders read-only, for root and for whoever has them open too, as a disk does that fails."""
    frozen = []

    def freeze(*paths) -> None:
        command = ["chattr", "+i", *map(str, paths)]
        if shutil.which("chattr") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to make files immutable")
        frozen.extend(map(str, paths))

    def thaw() -> None:
        if frozen:
            subprocess.run(["chattr", "-i", *frozen], check=True)
            frozen.clear()

    yield freeze, thaw
    thaw()


def test_a_disk_that_may_only_be_read_is_said_and_costs_nothing(start_engine, settings, clip, tmp_path, read_only):
    freeze, thaw = read_only
    engine = start_engine()
    frames = clip(1)
    with engine.connect() as connection:
        connection.submit("before", settings(), frames)
        assert finished(connection, "before").state == "done"
        home = engine.home
        freeze(*home.glob("journal.sqlite3*"), home / "partial", home / "blobs" / "local", home / "blobs", home)
        for number, pictures in enumerate((frames, clip(1, seed=1))):
            with pytest.raises(ProtocolError) as refused:
                connection.submit(f"refused-{number}", settings(), pictures)
            assert refused.value.code == "cannot-write" and refused.value.remedy
        with pytest.raises(ProtocolError) as refused:
            connection.taken("before")
        assert refused.value.code == "cannot-write"
        assert len(connection.fetch("before", tmp_path / "out").frames) == 1
        thaw()
        connection.submit("after", settings(), frames)
        assert finished(connection, "after").state == "done"
        assert connection.taken("before").taken
    assert engine.end(signal.SIGTERM) == 0


SLOW_DISK = """
import os, time
swift = os.fsync
def slow(descriptor):
    time.sleep(0.5)
    swift(descriptor)
os.fsync = slow
"""


def test_a_slow_disk_does_not_keep_others_waiting(start_engine, settings, clip, tmp_path):
    engine = start_engine(tmp_path / "home", before=SLOW_DISK)
    answers = []
    with engine.connect() as connection, engine.connect() as other:
        other.hello(timeout=PATIENCE)
        connection.submit("slow", settings(), clip(3), on_sent=lambda *_: answers.append(other.ping(timeout=PATIENCE)))
        assert len(answers) == 4 and sorted(answers)[2] < 0.25
        assert finished(connection, "slow").state == "done"


def test_an_engine_that_is_told_to_end_does_so_in_time_and_keeps_the_work(start_engine, start_endless, tmp_path):
    engine = start_engine()
    with engine.connect() as connection:
        start_endless(connection, "kept")
        os.kill(engine.workers()[-1], signal.SIGSTOP)  # it cannot even be asked
    began = time.monotonic()
    assert engine.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10
    assert not engine.leftovers() and not (engine.home / endpoint.FILE_NAME).exists()
    again = start_engine()
    with again.connect() as connection:
        assert connection.status("kept").state in ("queued", "running")


def test_a_full_disk_loses_nothing(small_disk, start_engine, settings, clip):
    engine = start_engine(small_disk / "home")
    frames = clip(1)
    with engine.connect() as connection:
        connection.submit("before", settings(), frames)
        assert finished(connection, "before").state == "done"
        filler = small_disk / "filler"
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(os.urandom(4096))
        with pytest.raises(ProtocolError) as refused:
            connection.submit("upload", settings(), clip(1, 256, 256))
        assert refused.value.code == "disk-full"
        for number in range(100):  # the journal has room inside its file for a few
            try:
                connection.submit(f"full-{number}", settings(), frames)
            except ProtocolError as error:
                assert error.code == "disk-full" and error.remedy
                break
        else:
            raise AssertionError("the disk is not full")
        assert connection.ping(timeout=PATIENCE) < PATIENCE
        command = [sys.executable, "-m", "engine.service.server", "--home", str(small_disk / "other")]
        other = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert other.returncode == 1
        assert "disk" in other.stderr and "Traceback" not in other.stderr
        filler.unlink()
        connection.submit("after", settings(), frames)
        assert finished(connection, "after").state == "done"
        assert connection.status("before").state == "done"
    assert not engine.leftovers()
    assert engine.end(signal.SIGTERM) == 0
