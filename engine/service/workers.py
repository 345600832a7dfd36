"""The server's handle on a worker process."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

from . import pipes

if TYPE_CHECKING:
    from .pool import AnyWorker

END_PATIENCE = 2.0
"""Seconds a worker gets to end by itself."""
STEP_LIMIT = 900.0
"""Seconds that one call of the UNet, or the loading of a model, may take: far more than either needs anywhere."""


@dataclass(frozen=True)
class WorkerOptions:
    """What every worker of an engine is started with."""

    devices: tuple[str, ...] = ("auto",)
    each: int = 1
    """Workers on each device."""
    threads: int | None = None
    step_limit: float = STEP_LIMIT
    """Seconds without a word after which a worker that has a job is taken to hang."""


@dataclass(frozen=True)
class FromWorker:
    """A message from `worker`; None once it has ended."""

    worker: AnyWorker
    message: pipes.AnyMessage | None


class Worker:
    """A worker process. What it says is handed to `post` from another thread; sending to it never blocks."""

    def __init__(
        self,
        files: Path,
        log: BinaryIO,
        name: str,
        device: str,
        threads: int | None,
        post: Callable[[FromWorker], None],
    ):
        """`files` is the engine's folder; `name` marks what it writes there; what it prints goes to `log`."""
        self._post, self.name = post, name
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        command = [sys.executable, "-P", "-m", "engine.service.worker"]
        command += ["--home", str(files), "--name", name, "--device", device]
        if threads:
            command += ["--threads", str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment(threads),
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def memory(self) -> int:
        """Bytes of memory that it takes; none of one that has ended."""
        try:
            return psutil.Process(self.pid).memory_info().rss
        except (OSError, psutil.Error):
            return 0

    def send(self, message: pipes.Work | pipes.Stop) -> None:
        """Tell the worker something."""
        self._outgoing.put(message)

    def kill(self) -> None:
        """End the process at once, whatever it does; `FromWorker` without a message follows."""
        self._process.kill()

    def end(self) -> int:
        """End the process, by force if need be, and return its exit code (negative: the signal that ended it)."""
        self._outgoing.put(None)
        try:
            self._process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        self._process.stdout.close()
        return self._process.returncode

    def _read(self) -> None:
        try:
            while (message := pipes.read(self._process.stdout)) is not None:
                self._post(FromWorker(self, message))
        except (OSError, ValueError):
            pass  # a worker that talks nonsense is ended like one that is gone
        self._post(FromWorker(self, None))

    def _write(self) -> None:
        try:
            with self._process.stdin as pipe:
                while (message := self._outgoing.get()) is not None:
                    pipes.write(pipe, message)
        except OSError:
            pass  # it is gone: the reading thread says so


def environment(threads: int | None) -> dict[str, str]:
    """Of a process of the engine's: it finds the packages where this one found them, never in the current folder (-P)."""
    found = dict(os.environ)
    packages = str(Path(__file__).resolve().parents[2])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [packages, found.get("PYTHONPATH")]))
    if threads:
        found["OMP_NUM_THREADS"] = str(threads)
    return found
