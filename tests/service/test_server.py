"""The server process: who may connect, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zmq

from engine.service.server import options_of
from protocol import PROTOCOL_VERSION, endpoint, limits, messages, wire
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.settings import EditSettings
from tests.service.harness import PATIENCE, REPOSITORY, Raw, gone, wait_until

BLOB = "ab" * 32


def test_it_never_imports_torch():
    program = "import sys, engine.service.server; print(*{name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split()
    assert "zmq" in loaded
    assert {"torch", "numpy", "PIL", "diffusers", "transformers", "bpy"}.isdisjoint(loaded)


@pytest.mark.parametrize("named", ["foo", "cuda:x", "cpu,", ""])
def test_a_device_that_there_cannot_be_is_refused_at_once(named, capsys):
    with pytest.raises(SystemExit):
        options_of(["--device", named])
    assert "there is no device" in capsys.readouterr().err


def test_hello_says_what_there_is(shared_engine):
    with shared_engine.connect() as connection:
        welcome = connection.hello()
        assert welcome.version == PROTOCOL_VERSION
        assert welcome.engine == shared_engine.endpoint.engine
        assert welcome.device in ("auto", "cpu")
        assert welcome.models[0] == "builtin"
        assert welcome.limits["frames"] == limits.MAX_FRAMES
        assert connection.ping() < PATIENCE
        assert connection.events() == []


@pytest.mark.skipif(sys.platform == "win32", reason="the user's profile folder is private there")
def test_what_it_keeps_is_its_users_alone(shared_engine):
    assert stat.S_IMODE((shared_engine.home / endpoint.FILE_NAME).stat().st_mode) == 0o600
    for path in [shared_engine.home, *shared_engine.home.rglob("*")]:
        assert not path.stat().st_mode & 0o077, path


def refusal(to: endpoint.Endpoint) -> ProtocolError:
    with Connection(to) as connection, pytest.raises(ProtocolError) as refused:
        connection.hello(timeout=PATIENCE)
    assert refused.value.remedy
    return refused.value


def test_an_unknown_client_is_not_let_in(shared_engine):
    public, secret = (key.decode() for key in zmq.curve_keypair())
    stranger = msgspec.structs.replace(shared_engine.endpoint, client_key=public, client_secret=secret)
    assert refusal(stranger).code == "not-allowed"


def test_another_engines_key_is_told(shared_engine):
    public, _ = zmq.curve_keypair()
    assert refusal(msgspec.structs.replace(shared_engine.endpoint, server_key=public.decode())).code == "wrong-key"


def test_without_encryption_nobody_gets_in(shared_engine):
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(shared_engine.endpoint.address)
        plain.send_multipart(wire.pack(messages.Hello(client="plain", versions=[1])))
        assert not plain.poll(500)


def test_a_client_of_another_version_hears_which_side_to_update(shared_engine):
    newer = PROTOCOL_VERSION + 1
    with Raw(shared_engine.endpoint) as raw:
        answers = [
            raw.ask(*wire.pack(messages.Hello(request=7, client="newer", versions=[newer]))),
            raw.ask(wire.MAGIC + bytes([newer]) + b"\xc1"),
        ]
        assert answers[0].request == 7
        for answer in answers:
            assert answer.code == "version-mismatch"
            assert f"add-on speaks protocol version {newer}, the engine version {PROTOCOL_VERSION}" in answer.sentence
            assert answer.remedy == "Update the engine."
        both = raw.ask(*wire.pack(messages.Hello(client="both", versions=[PROTOCOL_VERSION, newer])))
        assert both.version == PROTOCOL_VERSION


def test_what_is_over_a_limit_is_refused(shared_engine):
    upload = messages.Upload(blob=BLOB, size=limits.MAX_BLOB_BYTES + 1, offset=0)
    header = wire.pack(upload)[0]
    with Raw(shared_engine.endpoint) as raw:
        for parts in (
            [header, b"x"],
            [header, bytes(limits.CHUNK_BYTES + 1)],
            [header, *[b""] * (limits.MAX_BUFFERS + 1)],
        ):
            assert raw.ask(*parts).code == "over-limit"


def test_a_giant_prompt_does_not_come_back_in_the_refusal(shared_engine):
    long = "ball " * (limits.MAX_HEADER_BYTES // 6)
    with Raw(shared_engine.endpoint) as raw:
        for prompt in (long, long[: limits.MAX_SETTINGS_BYTES // 2]):
            settings = EditSettings(source=prompt, target="a cup", blend_source=("sky",))
            submit = messages.Submit(job_id="giant", settings=settings, frames=[BLOB], fps=24.0)
            answer = raw.ask(*wire.pack(submit))
            assert answer.code in ("over-limit", "bad-settings")
            assert len(answer.sentence) <= limits.MAX_SENTENCE_CHARACTERS
    assert not gone(shared_engine.process.pid)


def test_a_part_that_is_far_too_large_ends_its_connection_only(shared_engine):
    with shared_engine.connect() as honest, Raw(shared_engine.endpoint) as raw:
        honest.hello(timeout=PATIENCE)
        raw.socket.send(bytes(limits.MAX_PART_BYTES + 1))
        assert not raw.socket.poll(500)
        assert honest.ping(timeout=PATIENCE) < PATIENCE
    assert not gone(shared_engine.process.pid)


@pytest.mark.parametrize(
    "message",
    [
        messages.Pong(),
        messages.Event(status=messages.JobStatus(job_id="j", state="done")),
        messages.Upload(blob=BLOB, size=5, offset=0),
        messages.Read(blob=BLOB, offset=0),
        messages.Query(job_id="unknown"),
        messages.Cancel(job_id="unknown"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_requests_that_cannot_be_met_are_refused(shared_engine, message):
    with Raw(shared_engine.endpoint) as raw:
        answer = raw.ask(*wire.pack(msgspec.structs.replace(message, request=5)))
    assert isinstance(answer, messages.Refusal)
    assert answer.request == 5
    assert answer.code in ("malformed", "no-such-blob", "no-such-job")


def test_wrong_bytes_never_get_a_blobs_name(shared_engine):
    with Raw(shared_engine.endpoint) as raw:
        half = raw.ask(*wire.pack(messages.Upload(blob=BLOB, size=8, offset=0), b"four"))
        assert half.received == 4
        assert raw.ask(*wire.pack(messages.Upload(blob=BLOB, size=8, offset=4), b"more")).code == "digest-mismatch"
        assert raw.ask(*wire.pack(messages.Read(blob=BLOB, offset=0))).code == "no-such-blob"
    assert not shared_engine.leftovers()


def test_garbage_is_answered_and_harms_nobody(shared_engine):
    """Noise and broken messages over an allowed connection, and noise over none; the seed is printed with a failure."""
    seed = random.randrange(2**32)
    source = random.Random(seed)
    # An id of which no changed byte makes that of another test's job.
    sample = bytes(wire.pack(messages.Query(request=1, job_id="of nobody"))[0])
    with shared_engine.connect() as honest, Raw(shared_engine.endpoint) as raw:
        honest.hello(timeout=PATIENCE)
        for _ in range(300):
            data = bytearray(sample)
            data[source.randrange(len(data))] = source.randrange(256)
            noise = [source.randbytes(source.randint(0, 40)) for _ in range(source.randint(0, 3))]
            answer = raw.ask(*source.choice([[bytes(data)], [bytes(data), *noise], noise or [b""]]))
            assert isinstance(answer, messages.Refusal), f"seed {seed}: {answer}"
            assert answer.code != "engine-error", f"seed {seed}: {answer}"
        host, port = shared_engine.endpoint.address.removeprefix("tcp://").split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as stranger, contextlib.suppress(OSError):
                stranger.sendall(source.randbytes(source.randint(1, 200)))
        assert honest.ping(timeout=PATIENCE) < PATIENCE


def test_one_folder_has_one_engine(start_engine, tmp_path):
    first = start_engine()
    command = [sys.executable, "-m", "engine.service.server", "--home", str(first.home)]
    second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert second.returncode == 1
    assert "Another engine already serves" in second.stderr and "Traceback" not in second.stderr
    with first.connect() as connection:
        connection.hello(timeout=PATIENCE)
    first.end(signal.SIGKILL)
    assert start_engine().ready.startswith("Engine ")


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "engine.service.server", "--home", str(tmp_path / "file" / "home")]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot be used" in result.stderr and "Traceback" not in result.stderr


def test_a_damaged_journal_is_said(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "journal.sqlite3").write_bytes(b"no database" * 1000)
    command = [sys.executable, "-m", "engine.service.server", "--home", str(home)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert "journal" in result.stderr and "Traceback" not in result.stderr
    assert not (home / endpoint.FILE_NAME).exists()


def ask_to_end(engine) -> None:
    with engine.connect() as connection:
        connection.shutdown(timeout=PATIENCE)


WAYS_TO_END = {
    "signal": lambda engine: engine.process.terminate(),
    "message": ask_to_end,
}
if sys.platform != "win32":
    WAYS_TO_END["ctrl-c"] = lambda engine: engine.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("end", WAYS_TO_END.values(), ids=WAYS_TO_END)
def test_it_ends_cleanly(start_engine, tmp_path, end):
    engine = start_engine(tmp_path / "home", "--exit-with-parent")
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        end(engine)
        assert engine.ended() == 0, engine.log.read_text()
        assert not (engine.home / endpoint.FILE_NAME).exists()
        with pytest.raises(ProtocolError) as lost:
            connection.ping(timeout=PATIENCE)
        assert lost.value.code == "connection-lost"
    assert "Traceback" not in engine.log.read_text()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into the process")
def test_the_running_server_has_no_torch_in_it(shared_engine, connection, settings, clip):
    connection.submit("warm", settings(), clip(1))
    wait_until(lambda: connection.status("warm").final, "the edit")
    libraries = Path(f"/proc/{shared_engine.process.pid}/maps").read_text()
    assert "libzmq" in libraries or "zmq" in libraries
    assert "torch" not in libraries
