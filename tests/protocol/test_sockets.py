"""Whoever forgets a connection or a door does not wait for it at the end. In processes of their own: they might hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds for what takes one; without end where a context waits for sockets that nobody closes."""
BEGIN = """
import gc, os, sys, tempfile, pathlib
from protocol.connection import Connection
from protocol.endpoint import Endpoint
from protocol.keys import KeyPair
keys = KeyPair.make()

def connection(address="tcp://127.0.0.1:9"):
    return Connection(Endpoint(address=address, server_key=keys.public, client_key=keys.public,
                               client_secret=keys.secret, pid=1))

def sockets():
    if not os.path.exists("/proc/self/fd"):
        return []
    return [fd for fd in os.listdir("/proc/self/fd") if "eventpoll" in os.path.realpath(f"/proc/self/fd/{fd}")]
"""
WAYS = {
    "plainly": "connection()",
    "in a cycle": "one = connection(); one.itself = one; del one",
    "with a message that never leaves": "one = connection(); one._line._send([b'x' * 100_000]); one.itself = one; del one",
    "by an exception": """
def ask():
    one = connection()
    try:
        one.hello(timeout=0.2)
    except Exception as error:
        one.refused = error
ask()
""",
    "in another thread": """
import threading
def ask():
    one = connection()
    one.itself = one
    one.ping
thread = threading.Thread(target=ask); thread.start(); thread.join()
""",
}


def ends(code: str) -> None:
    finished = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=ROOT, timeout=PATIENCE, capture_output=True)
    assert finished.returncode == 0, finished.stderr.decode()


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_is_dropped_without_closing_it(way):
    ends(WAYS[way] + "\ngc.collect()\nassert not sockets()\n")


def test_one_that_is_there_until_the_process_ends():
    ends("kept = connection(); kept._line._send([b'x'])")


def test_an_engines_door_that_is_dropped_without_closing_it():
    ends(
        """
from engine.service.accounts import Accounts
from engine.service.gateway import Gateway
with tempfile.TemporaryDirectory() as folder:
    door = Gateway(Accounts(pathlib.Path(folder), keys.public), KeyPair.make(), None, print)
    one = connection(door.addresses[0])
    one._line._send([b'x'])
    door.itself, one.itself = door, one
    del door, one
    gc.collect()
"""
    )
