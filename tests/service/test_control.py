"""The commands that look after an engine, as a person at a terminal uses them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from protocol import endpoint, keys
from protocol.connection import Connection
from tests.service.harness import PATIENCE, REPOSITORY, finished


def engine(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `python -m engine …`."""
    command = [sys.executable, "-m", "engine", *map(str, arguments)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_a_running_engine_is_looked_after(start_engine, start_endless, settings, clip, tmp_path):
    running = start_engine()
    home, frames = ("--home", running.home), clip(1)
    with running.connect() as connection:
        start_endless(connection, "aa-runs", frames)
        connection.submit("ab-waits", settings(), frames)
        code, said = engine("status", *home)
        assert code == 0 and "1 running, 1 queued" in said and str(running.process.pid) in said
        code, said = engine("jobs", *home)
        first, second = said.splitlines()
        assert "aa-runs  running" in first and "invert" in first
        assert "ab-waits  queued" in second and "1 before it" in second
        assert engine("cancel", "a", *home) == (1, "2 jobs begin with 'a'. Give more of the id.\n")
        assert engine("cancel", "ab", *home) == (0, "ab-waits is cancelled.\n")
        assert engine("cancel", "aa", *home)[0] == 0
        assert finished(connection, "aa-runs").state == "cancelled"
        code, said = engine("cancel", "unknown", *home)
        assert code == 1 and "no job unknown" in said
    code, said = engine("logs", *home, "--lines", 5)
    assert code == 0 and "job cancelled job=aa-runs" in said and len(said.splitlines()) <= 5


def test_the_log_says_no_prompts_unless_asked(start_engine, tmp_path, settings, clip):
    for home, arguments, logged in ((tmp_path / "silent", [], False), (tmp_path / "told", ["--log-prompts"], True)):
        running = start_engine(home, *arguments)
        with running.connect() as connection:
            connection.submit("private", settings(), clip(1, seed=len(arguments)))
            assert finished(connection, "private").state == "done"
        text = "".join(path.read_text() for path in (home / "logs").iterdir())
        assert ("a red ball" in text) is logged
        for secret in (running.endpoint.client_secret, keys.load_or_make(home / "server-key.json").secret):
            assert secret not in text


@pytest.mark.parametrize("command", ["status", "jobs", "logs"])
def test_where_no_engine_is_that_is_said(tmp_path, command):
    code, said = engine(command, "--home", tmp_path)
    assert code == 1 and len(said.splitlines()) == 1


def test_keys_from_the_first_to_the_last(start_engine, tmp_path):
    home = ("--home", tmp_path / "home")
    code, said = engine("keys", *home)
    assert code == 0 and "No client" in said
    server_key = said.split()[3]
    code, said = engine("keys", "make", "ada", tmp_path / "ada.json", *home)
    assert code == 0
    ada = keys.load_or_make(tmp_path / "ada.json")
    code, said = engine("keys", "list", *home)
    assert f"ada{' ' * 22}{keys.shown(ada.public)}" in said and ada.secret not in said
    running = start_engine(tmp_path / "home", "--listen", "127.0.0.1:0")
    port = running.logged("engine ready")[0]["listen"].rpartition(":")[2]
    with Connection(endpoint.remote(f"127.0.0.1:{port}", server_key, ada)) as connection:
        connection.hello(timeout=PATIENCE)
    assert engine("keys", "revoke", "ada", *home) == (0, "ada is let in no longer.\n")
    assert engine("keys", "revoke", "ada", *home)[0] == 1
    assert engine("keys", "make", "ada", tmp_path / "ada.json", *home)[0] == 1
    assert engine("keys", "make", "no name", tmp_path / "none.json", *home)[0] == 1
    assert not (tmp_path / "none.json").exists(), "nobody has these keys"
    assert engine("keys", "add", "ada", "not a key", *home)[0] == 1
    code, said = engine("keys", "add", "ada", keys.shown(ada.public), *home)
    assert code == 0 and server_key in said
