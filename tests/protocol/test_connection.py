"""What a client is told where no engine answers as it should. Talking to a real one is tested in tests/service."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import zmq

from protocol import PROTOCOL_VERSION, messages, wire
from protocol.connection import Connection
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolError


def keys() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def endpoint_at(address: str, server_key: str | None = None) -> Endpoint:
    client_key, client_secret = keys()
    return Endpoint(
        address=address,
        server_key=server_key or keys()[0],
        client_key=client_key,
        client_secret=client_secret,
        pid=1,
        engine="0.1.0",
    )


def refusal_of_hello(endpoint: Endpoint, timeout: float) -> ProtocolError:
    with Connection(endpoint) as connection, pytest.raises(ProtocolError) as refused:
        connection.hello(timeout=timeout)
    assert refused.value.sentence and refused.value.remedy
    return refused.value


def test_a_closed_port_is_said_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert refusal_of_hello(endpoint_at(f"tcp://127.0.0.1:{port}"), timeout=60).code == "no-engine"


def test_a_port_that_never_speaks_is_no_engine():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert refusal_of_hello(endpoint_at(address), timeout=0.5).code == "no-engine"


def test_a_port_of_something_else_is_no_engine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=answer_like_a_web_server, args=[server])
        answering.start()
        error = refusal_of_hello(endpoint_at(f"tcp://127.0.0.1:{server.getsockname()[1]}"), timeout=2)
    answering.join()
    assert error.code in ("no-engine", "wrong-key")


def answer_like_a_web_server(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        peer, _ = server.accept()
        with peer:
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))


@pytest.mark.parametrize("address", ["", "nowhere", "tcp://"])
def test_an_address_without_sense_is_refused(address):
    with pytest.raises(ProtocolError) as refused:
        Connection(endpoint_at(address))
    assert refused.value.code == "endpoint-damaged"


@contextlib.contextmanager
def engine_of_another_make(answer: list[bytes]):
    """An engine that answers everything with `answer`."""
    server_key, server_secret = keys()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.curve_server = True
        router.curve_secretkey = server_secret.encode()
        port = router.bind_to_random_port("tcp://127.0.0.1")

        def serve():
            if router.poll(20_000):
                client, *_ = router.recv_multipart()
                router.send_multipart([client, *answer])

        thread = threading.Thread(target=serve)
        thread.start()
        yield endpoint_at(f"tcp://127.0.0.1:{port}", server_key)
        thread.join()


def test_an_engine_of_another_version_is_named():
    newer = PROTOCOL_VERSION + 1
    with engine_of_another_make([wire.MAGIC + bytes([newer]) + b"\x80"]) as endpoint:
        error = refusal_of_hello(endpoint, timeout=20)
    assert error.code == "version-mismatch"
    assert f"version {newer}" in error.sentence and f"version {PROTOCOL_VERSION}" in error.sentence
    assert error.remedy == "Update the add-on."


@pytest.mark.parametrize(
    "answer",
    [[b""], [b"garbage"], [b"", b"", b"", b""], wire.pack(messages.Pong(request=1))],
    ids=["empty", "garbage", "parts", "another answer"],
)
def test_answers_without_sense_are_said_to_be(answer):
    with engine_of_another_make(answer) as endpoint:
        assert refusal_of_hello(endpoint, timeout=20).code in ("malformed", "over-limit")


def test_a_silent_engine_is_a_time_out():
    with engine_of_another_make(wire.pack(messages.Pong(request=99))) as endpoint:
        assert refusal_of_hello(endpoint, timeout=1).code == "time-out"


def test_closing_twice_is_harmless():
    connection = Connection(endpoint_at("tcp://127.0.0.1:9"))
    connection.close()
    connection.close()
