"""Real engines for the tests, and clients of theirs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import zmq

from protocol import endpoint, messages, wire
from protocol.connection import Connection

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that anything may take on a loaded machine; nothing should come near."""


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE):
    """The first true value of `condition`, asked again and again."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain: {what}"
        time.sleep(0.02)
    return value


def gone(pid: int) -> bool:
    """Whether the process has ended, be it that nobody has collected it yet."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return not endpoint.process_runs(pid)


class Engine:
    """A server process on the folder `home`."""

    def __init__(self, home: Path, *arguments: str, before: str = ""):
        self.home = home
        self.log = home / "logs" / "engine.log"
        program = f"{before}\nimport sys\nfrom engine.service.server import main\nsys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "--home", str(home), "--device", "cpu", "--threads", "1", *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self.process.stdout.readline()
        assert self.ready, "the engine did not start"
        self.endpoint = endpoint.read(home)

    def connect(self) -> Connection:
        return Connection(self.endpoint, client="a test")

    def workers(self) -> list[int]:
        """Process ids of all workers on this machine so far."""
        return [line["worker"] for line in self.logged("worker started") if isinstance(line["worker"], int)]

    def logged(self, event: str) -> list[dict]:
        """Lines of the log that tell of `event`."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def leftovers(self) -> list[str]:
        """Files that should not outlive what wrote them."""
        return [str(path) for path in (self.home / "partial").iterdir()]

    def end(self, how: int = signal.SIGKILL) -> int:
        """Send a signal, wait for the end of the server and its workers, and return the server's exit code."""
        self.process.send_signal(how)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of the server and its workers."""
        code = self.process.wait(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()
        wait_until(lambda: all(map(gone, self.workers())), "the workers' end")
        return code


def finished(connection: Connection, job_id: str) -> messages.JobStatus:
    """The job's status once it has ended."""
    return wait_until(
        lambda: (status := connection.status(job_id)).final and status,
        f"the end of {job_id}",
    )


def small_checkpoint(folder: Path) -> Path:
    """The tiny checkpoint as one for pictures of 64 pixels a side, whose edits are over in a moment."""
    shutil.copytree(REPOSITORY / "tests" / "data" / "checkpoint", folder)
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sample_size": 8}))
    return folder


class Raw:
    """A client that may connect and then sends what it likes."""

    def __init__(self, to: endpoint.Endpoint, name: bytes = b""):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        if name:
            self.socket.routing_id = name
        self.socket.curve_serverkey = to.server_key.encode()
        self.socket.curve_publickey = to.client_key.encode()
        self.socket.curve_secretkey = to.client_secret.encode()
        self.socket.connect(to.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.context.destroy(linger=0)

    def ask(self, *parts: bytes) -> messages.Message:
        """Send `parts` as one message and return the answer."""
        self.socket.send_multipart(parts)
        assert self.socket.poll(PATIENCE * 1000), "no answer"
        return wire.unpack(self.socket.recv_multipart(), sender="engine").message

    def read(self, blob: str) -> messages.Message:
        """Ask for a blob."""
        return self.ask(*wire.pack(messages.Read(blob=blob, offset=0)))
