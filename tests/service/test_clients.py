"""Several clients with keys of their own: who may come in, and that none finds what is another's."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.errors import EditError
from engine.service import accounts
from protocol import endpoint, files, limits, messages, wire
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.keys import KeyPair, load_or_make, shown
from tests.service.harness import PATIENCE, REPOSITORY, Raw, finished


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def studio(start_engine, tmp_path) -> Iterator[tuple]:
    """An engine for other machines, and how two clients reach it."""
    home, keys = tmp_path / "home", [KeyPair.make(), KeyPair.make()]
    for name, pair in zip(("ada", "grace"), keys):
        accounts.add(home, name, pair.public)
    address = f"127.0.0.1:{free_port()}"
    engine = start_engine(home, "--listen", address)
    server_key = shown(load_or_make(home / accounts.SERVER_KEY_NAME).public)
    yield engine, *(endpoint.remote(address, server_key, pair) for pair in keys)


def test_no_client_finds_another_ones_work(studio, settings, clip, tmp_path):
    engine, *endpoints = studio
    frames = clip(1)
    with contextlib.ExitStack() as stack:
        ada, grace = (stack.enter_context(Connection(to, client="a test")) for to in endpoints)
        local = stack.enter_context(engine.connect())
        ada.submit("secret", settings(), frames)
        status = finished(ada, "secret")
        for stranger in (grace, local):
            assert stranger.jobs() == []
            for ask in ("status", "cancel", "pause", "resume", "retry", "move", "taken"):
                with pytest.raises(ProtocolError) as refused:
                    getattr(stranger, ask)("secret")
                assert refused.value.code == "no-such-job"
            stranger.forget("secret")
            assert stranger.events() == []
        with Raw(endpoints[1]) as raw:
            for blob in (status.frames[0], status.masks["ball"][0]):
                assert raw.read(blob).code == "no-such-blob", "knowing a name does not help"
            known = files.digest(frames[0])
            offer = wire.pack(messages.Offer(blobs=[known]))
            assert raw.ask(*offer).missing == [messages.Missing(known, 0)], "nor does it tell who has it"
        sent = []
        grace.submit("secret", settings(steps=3), frames, on_sent=lambda *now: sent.append(now))
        assert sent, "whoever has not sent a frame does not have it, and job ids are each client's own"
        grace.cancel("secret")
        assert len(ada.fetch("secret", tmp_path / "out").frames) == 1
        assert [status.job_id for status in ada.jobs()] == ["secret"]


def test_what_belongs_to_the_machine_is_not_a_clients(studio):
    _, to, _ = studio
    with Connection(to, client="a test") as connection:
        connection.hello(timeout=PATIENCE)
        for ask in (connection.shutdown, lambda: connection.when_alone("at-once")):
            with pytest.raises(ProtocolError) as refused:
                ask()
            assert refused.value.code == "not-allowed"


def test_a_revoked_key_is_turned_away_at_once(studio):
    engine, to, other = studio
    with Connection(to) as connection, Connection(other) as kept:
        connection.hello(timeout=PATIENCE)
        kept.hello(timeout=PATIENCE)
        accounts.revoke(engine.home, "ada")
        with pytest.raises(ProtocolError) as refused:
            connection.ping(timeout=PATIENCE)
        assert refused.value.code == "not-allowed"
        assert kept.ping(timeout=PATIENCE) < PATIENCE
    with Connection(to) as connection, pytest.raises(ProtocolError) as refused:
        connection.hello(timeout=PATIENCE)
    assert refused.value.code == "not-allowed" and "keys add" in refused.value.remedy
    accounts.add(engine.home, "ada", to.client_key)
    with Connection(to) as connection:
        connection.hello(timeout=PATIENCE)


def test_other_machines_are_served_only_where_somebody_is_known(tmp_path):
    command = [sys.executable, "-m", "engine.service.server", "--home", str(tmp_path / "home")]
    result = subprocess.run([*command, "--listen", "0.0.0.0:0"], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert "keys add" in result.stderr and "Traceback" not in result.stderr


def test_an_address_that_is_taken_is_said(tmp_path):
    accounts.add(tmp_path / "home", "ada", KeyPair.make().public)
    command = [sys.executable, "-m", "engine.service.server", "--home", str(tmp_path / "home")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run([*command, "--listen", address], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot listen" in result.stderr and "Traceback" not in result.stderr


def test_the_engines_key_stays_the_same(start_engine, tmp_path):
    first = start_engine()
    key = first.endpoint.server_key
    first.end()
    second = start_engine()
    assert second.endpoint.server_key == key
    assert second.endpoint.client_key != first.endpoint.client_key


def test_connections_are_bounded(start_engine):
    engine = start_engine()
    with contextlib.ExitStack() as stack:
        for _ in range(limits.MAX_CONNECTIONS):
            stack.enter_context(engine.connect()).hello(timeout=PATIENCE)
        with engine.connect() as one_more, pytest.raises(ProtocolError) as refused:
            one_more.hello(timeout=PATIENCE)
        assert refused.value.code == "too-many-connections" and refused.value.remedy
    with engine.connect() as again:
        again.hello(timeout=PATIENCE)


def test_strangers_who_only_hold_the_line_shut_nobody_out(start_engine):
    engine = start_engine()
    host, port = engine.endpoint.address.removeprefix("tcp://").split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(2 * limits.MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port))))
        with engine.connect() as connection:
            connection.hello(timeout=PATIENCE)


@pytest.mark.parametrize("name", ["", "../up", "a b", "x" * 61])
def test_what_is_no_name_is_not_added(tmp_path, name):
    with pytest.raises(EditError) as refused:
        accounts.add(tmp_path, name, KeyPair.make().public)
    assert refused.value.code == "bad-name"
    assert accounts.listed(tmp_path) == {}


def test_clients_are_added_and_revoked_by_name(tmp_path):
    ada, grace = KeyPair.make().public, KeyPair.make().public
    accounts.add(tmp_path, "ada", ada)
    accounts.add(tmp_path, "ada", ada)
    accounts.add(tmp_path, "grace", grace)
    with pytest.raises(EditError) as refused:
        accounts.add(tmp_path, "ada", grace)
    assert refused.value.code == "name-taken"
    assert accounts.listed(tmp_path) == {"ada": ada, "grace": grace}
    known = accounts.Accounts(tmp_path, KeyPair.make().public)
    assert known.owner(ada) == accounts.owner_of(ada) != known.owner(grace)
    accounts.revoke(tmp_path, "ada")
    assert known.owner(ada) is None and not known.allows(accounts.owner_of(ada))
    with pytest.raises(EditError) as refused:
        accounts.revoke(tmp_path, "ada")
    assert refused.value.code == "no-such-client"
    shutil.copy(__file__, tmp_path / accounts.FILE_NAME)
    assert known.owner(grace) is None, "a damaged list lets nobody in"
