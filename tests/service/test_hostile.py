"""Clients that mean harm, with a key and without one, while an honest one's job goes on and its pings are answered."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import msgspec
import psutil
import pytest
import zmq

from protocol import files, limits, messages, wire
from protocol.connection import Connection
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, Engine, Raw, finished, wait_until

SMALL_GROWTH = 48 * limits.MIB
LITTLE_MEMORY = f"import engine.service.server; engine.service.server.MAX_GROWTH_BYTES = {SMALL_GROWTH}"
"""The server's guard, where a test can reach it."""


@pytest.fixture
def honest(settings, clip) -> Callable[[Engine, str, int], contextlib.AbstractContextManager]:
    """A client that submits a job of so many steps, pings all the time, and has its job done in the end."""

    @contextlib.contextmanager
    def work(engine: Engine, job_id: str, steps: int) -> Iterator[None]:
        with engine.connect() as connection:
            connection.hello(timeout=PATIENCE)
            connection.submit(job_id, settings(steps=steps), clip(2))
            over, failures = threading.Event(), []
            pinging = threading.Thread(target=ping_until, args=[engine, over, failures])
            pinging.start()
            try:
                yield
            finally:
                over.set()
                pinging.join()
            assert not failures
            assert finished(connection, job_id).state == "done"

    return work


def ping_until(engine: Engine, over: threading.Event, failures: list[Exception]) -> None:
    """Every ping is answered in a time that people do not notice."""
    try:
        with engine.connect() as connection:
            while not over.wait(0.01):
                assert connection.ping(timeout=PATIENCE) < 5
    except (ProtocolError, AssertionError) as error:
        failures.append(error)


def test_a_message_without_an_end_costs_all_their_connection_and_nobody_the_job(start_engine, tmp_path, settings, clip):
    """libzmq gathers all parts of a message before anybody sees the first."""
    engine = start_engine(tmp_path / "home", before=LITTLE_MEMORY)
    with engine.connect() as connection:
        connection.submit("honest", settings(steps=100), clip(2))
        server, most = psutil.Process(engine.process.pid), 0

        def guarded() -> bool:
            nonlocal most
            most = max(most, server.memory_info().rss)
            return bool(engine.logged("the server's memory grew beyond its limit: all connections are cut"))

        before = server.memory_info().rss
        with Raw(engine.endpoint) as raw:
            raw.socket.sndhwm = 1
            part, over = bytes(limits.CHUNK_BYTES), threading.Event()
            sending = threading.Thread(target=send_without_end, args=[raw, part, over])
            sending.start()
            try:
                wait_until(guarded, "the guard")
            finally:
                over.set()
                sending.join()
        assert most - before < 20 * SMALL_GROWTH, "a second of what the line carries, not more"
        with pytest.raises(ProtocolError) as lost:
            for _ in range(1000):
                connection.ping(timeout=PATIENCE)
        assert lost.value.code == "connection-lost"
    wait_until(lambda: answers(engine), "the engine's being there again")  # a moment between two sockets it is not
    with engine.connect() as again:
        assert finished(again, "honest").state == "done"
    wait_until(lambda: server.memory_info().rss < before + SMALL_GROWTH, "its memory's coming back")


def answers(engine: Engine) -> bool:
    with contextlib.suppress(ProtocolError), engine.connect() as connection:
        return connection.ping(timeout=PATIENCE) < PATIENCE
    return False


def send_without_end(raw: Raw, part: bytes, over: threading.Event) -> None:
    """Messages of a thousand chunks, one after the other."""
    while not over.is_set():
        with contextlib.suppress(zmq.Again):
            raw.socket.send_multipart([part] * 1000, zmq.NOBLOCK)
        time.sleep(0.01)


def test_clients_that_ask_and_never_read_do_not_fill_the_memory(start_engine, honest, settings, clip):
    engine, readers, asked = start_engine(), 4, 300
    frames = clip(1, 640, 640)
    with engine.connect() as connection:
        connection.submit("large", settings(), frames)
        connection.cancel("large")
    blob, server = files.digest(frames[0]), psutil.Process(engine.process.pid)
    before = server.memory_info().rss
    with honest(engine, "honest", 40), contextlib.ExitStack() as stack:
        for _ in range(readers):
            raw = stack.enter_context(Raw(engine.endpoint))
            raw.socket.rcvhwm = 1
            for number in range(asked):
                raw.socket.send_multipart(wire.pack(messages.Read(request=number, blob=blob, offset=0)))
        with engine.connect() as connection:
            for _ in range(50):
                assert connection.ping(timeout=PATIENCE) < PATIENCE
        most = readers * limits.MAX_MESSAGES_WAITING * limits.CHUNK_BYTES
        assert server.memory_info().rss - before < most + 64 * limits.MIB
        assert most < readers * asked * limits.CHUNK_BYTES, "else nothing was bounded"


class Tap:
    """A line between a client and its engine that hears everything, and may spoil what it passes on."""

    def __init__(self, to: Endpoint):
        self._host, _, port = to.address.removeprefix("tcp://").rpartition(":")
        self._port = int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = msgspec.structs.replace(to, address=f"tcp://127.0.0.1:{self._listener.getsockname()[1]}")
        self.heard = bytearray()
        """All bytes from the client."""
        self.spoil = False
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def say_again(self, count: int | None = None) -> bytes:
        """Send what was heard, or its beginning, to the engine over a connection of its own; what it says to that."""
        with self._dial() as line:
            line.settimeout(1)
            answer = b""
            with contextlib.suppress(OSError):
                line.sendall(bytes(self.heard[:count]))
                while piece := line.recv(4096):
                    answer += piece
            return answer

    def _dial(self) -> socket.socket:
        return socket.create_connection((self._host, self._port))

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            with client, self._dial() as server:
                back = threading.Thread(target=self._pass_on, args=[server, client, False])
                back.start()
                self._pass_on(client, server, True)
                back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_client:
                    self.heard += data
                    if self.spoil:
                        data = data[:-1] + bytes([data[-1] ^ 1])
                target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def test_what_was_heard_on_the_line_is_of_no_use(shared_engine, connection, settings, clip):
    with Tap(shared_engine.endpoint) as tap:
        with Connection(tap.endpoint) as heard:
            heard.hello(timeout=PATIENCE)
            heard.forget("precious")
        connection.submit("precious", settings(), clip(1))
        assert finished(connection, "precious").state == "done"
        said = tap.heard.lower()
        assert len(said) > 500 and not [word for word in (b"precious", b"forget", b"fatezero") if word in said]
        for count in (None, len(tap.heard) - 1, 64 + 200, 64):
            tap.say_again(count)
    assert connection.ping(timeout=PATIENCE) < PATIENCE
    assert connection.status("precious").state == "done", "the forgetting was not heard twice"


def test_a_message_that_is_changed_on_the_line_does_nothing(shared_engine, connection, settings, clip):
    connection.submit("unchanged", settings(), clip(1))
    finished(connection, "unchanged")
    with Tap(shared_engine.endpoint) as tap, Connection(tap.endpoint) as changed:
        changed.hello(timeout=PATIENCE)
        tap.spoil = True
        with pytest.raises(ProtocolError) as lost:
            changed.forget("unchanged")
        assert lost.value.code in ("connection-lost", "time-out")
    assert connection.status("unchanged").state == "done"


def test_requests_that_come_again_change_nothing(shared_engine, connection, settings, clip, tmp_path):
    """Also from another connection, with the same numbers, and in another order."""
    frame = clip(1)[0]
    upload = messages.Upload(request=2, blob=files.digest(frame), size=frame.stat().st_size, offset=0)
    submit = messages.Submit(request=1, job_id="replayed", settings=settings(), frames=[files.digest(frame)], fps=24.0)
    said = [wire.pack(submit), wire.pack(upload, frame.read_bytes()), wire.pack(submit)]
    with Raw(shared_engine.endpoint) as raw:
        for parts in said:
            raw.ask(*parts)
    right = finished(connection, "replayed")
    assert right.state == "done"
    with Raw(shared_engine.endpoint) as raw:
        for parts in [*reversed(said), *said, *said]:
            answer = raw.ask(*parts)
            assert isinstance(answer, (messages.Job, messages.Stored))
        assert raw.ask(*wire.pack(submit)).status == right
    assert [status.job_id for status in connection.jobs()].count("replayed") == 1


def test_nobody_takes_anothers_place(shared_engine):
    """A client may name its connection; one that takes a name that is taken is not heard, nor hears."""
    with Raw(shared_engine.endpoint, name=b"ada") as first:
        assert isinstance(first.ask(*wire.pack(messages.Ping(request=1))), messages.Pong)
        with Raw(shared_engine.endpoint, name=b"ada") as second:
            second.socket.send_multipart(wire.pack(messages.Ping(request=2)))
            assert not second.socket.poll(500)
            assert first.ask(*wire.pack(messages.Ping(request=3))).request == 3
            assert not first.socket.poll(200), "it is told of nothing that others asked"
    with Raw(shared_engine.endpoint) as forging:
        assert forging.ask(b"ada", *wire.pack(messages.Ping(request=4))).code == "malformed"


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""What a ZeroMQ peer says first (RFC 23)."""
HANDSHAKES = {
    "silence": b"",
    "half a greeting": GREETING[:11],
    "a greeting": GREETING,
    "half a hello": GREETING + b"\x04\xc8\x05HELLO" + bytes(50),
    "a wrong hello": GREETING + b"\x04\xc8\x05HELLO" + os.urandom(194),
    "a giant frame": GREETING + b"\x02" + b"\x7f" + b"\xff" * 7 + bytes(100),
    "noise": os.urandom(300),
}


def test_floods_of_connections_keep_nobody_from_work(start_engine, honest):
    engine = start_engine()
    host, port = engine.endpoint.address.removeprefix("tcp://").split(":")
    server = psutil.Process(engine.process.pid)
    with honest(engine, "honest", 60), contextlib.ExitStack() as half_open:
        for number in range(300):
            line = half_open.enter_context(socket.create_connection((host, int(port))))
            with contextlib.suppress(OSError):
                line.sendall(list(HANDSHAKES.values())[number % len(HANDSHAKES)])
        until = time.monotonic() + 3
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as line:
                line.sendall(os.urandom(40))
        with engine.connect() as one_more:
            one_more.hello(timeout=PATIENCE)
    if sys.platform != "win32":
        wait_until(lambda: server.num_fds() < 100, "the end of what has not shaken hands")


FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_an_engine_without_file_descriptors_goes_on_when_it_has_some(start_engine, tmp_path, settings, clip):
    engine = start_engine(tmp_path / "home", before=FEW_FILES)
    host, port = engine.endpoint.address.removeprefix("tcp://").split(":")
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        with contextlib.ExitStack() as flood:
            for _ in range(200):
                flood.enter_context(socket.create_connection((host, int(port))))
            assert connection.ping(timeout=PATIENCE) < PATIENCE
            with contextlib.suppress(ProtocolError):  # no file can be made now
                connection.submit("during", settings(), clip(1))
            assert connection.ping(timeout=PATIENCE) < PATIENCE
        wait_until(lambda: submitted(connection, "after", settings(), clip(1, seed=1)), "room for a job")
        assert finished(connection, "after").state == "done"


def submitted(connection: Connection, *job) -> bool:
    """Whether the job is taken."""
    try:
        return bool(connection.submit(*job))
    except ProtocolError as error:
        assert error.code in ("cannot-write", "disk-full"), error
        return False
