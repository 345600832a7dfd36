"""What the server's memory grows by: over many small jobs, and over the upload of a long clip."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.service.kills import ended_with
from benchmarks.service.pings import percentiles, ping_while
from benchmarks.service.stage import Stage
from protocol.connection import Connection
from protocol.messages import JobStatus
from tests.service.harness import PATIENCE, wait_until

SAMPLE_SECONDS = 0.1
WARM_JOBS = 20
"""Before the first look: what is loaded once is no growth."""
WAITING = 50
"""Jobs that wait at a time."""
SIDE = 160
"""Pixels along a frame of the long clip: noise, about 77 KB each."""


class Memory:
    """Resident bytes of a process, looked at all the time."""

    def __init__(self, pid: int):
        self._process = psutil.Process(pid)
        self.first = self.most = self.last = self._process.memory_info().rss

    @property
    def growth(self) -> int:
        """Bytes that the most was above the first."""
        return self.most - self.first

    @contextlib.contextmanager
    def watched(self) -> Iterator[Memory]:
        """Look until the block is left."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(SAMPLE_SECONDS):
                self.last = self._process.memory_info().rss
                self.most = max(self.most, self.last)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()


def jobs(folder: Path, count: int, say: Callable[[str], None]) -> dict[str, int]:
    """Run `count` jobs of one frame and one step; how many were done, and what the server grew by."""
    stage = Stage(folder)
    with ended_with(stage.start()) as engine, engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        _run(stage, connection, range(-WARM_JOBS, 0), say)
        with Memory(engine.process.pid).watched() as memory:
            done = _run(stage, connection, range(count), say)
    say(f"{done} jobs: {memory.growth} bytes more at most, {memory.last - memory.first} at the end")
    return {"jobs": done, "growth_bytes": memory.growth}


def _run(stage: Stage, connection: Connection, numbers: range, say: Callable[[str], None]) -> int:
    """Submit so many jobs, a few at a time, and take their results; returns how many were done."""
    waiting: dict[str, None] = {}
    todo, done = iter(numbers), 0
    while True:
        while len(waiting) < WAITING and (number := next(todo, None)) is not None:
            settings = stage.settings(steps=1, mask_words=(), guidance=1.0 + number % 7)
            waiting[f"small-{number}"] = connection.submit(f"small-{number}", settings, stage.clip(1, 16, 16))
        if not waiting:
            return done
        wait_until(lambda: connection.status(next(iter(waiting))).final, "a small job")
        status: JobStatus = connection.status(next(iter(waiting)))
        assert status.state == "done", status.error
        connection.taken(status.job_id)
        del waiting[status.job_id]
        done += 1
        if done % 50 == 0:
            say(f"{done} of {len(numbers)} jobs")


def upload(folder: Path, frames: int, say: Callable[[str], None]) -> dict[str, object]:
    """Upload a clip of so many frames; what the server grew by, and how long pings took meanwhile."""
    stage = Stage(folder)
    say(f"making {frames} frames")
    paths = stage.clip(frames, SIDE, SIDE)
    with ended_with(stage.start()) as engine, engine.connect() as sending, engine.connect() as pinging:
        pinging.hello(timeout=PATIENCE)
        warm = stage.clip(8, SIDE, SIDE, seed=1)
        sending.submit("warm", stage.settings(), warm)
        sending.cancel("warm")
        with Memory(engine.process.pid).watched() as memory:
            seconds, times = _uploaded(stage, sending, pinging, paths, say)
        sending.cancel("long")
        wait_until(lambda: sending.status("long").final, "the end of the long job")
    pings = percentiles(times)
    say(f"{frames} frames in {seconds:.1f} s: {memory.growth} bytes more at most; {pings}")
    return {"frames": frames, "seconds": round(seconds, 1), "growth_bytes": memory.growth, "pings": pings}


def _uploaded(
    stage: Stage, sending: Connection, pinging: Connection, paths: list[Path], say: Callable[[str], None]
) -> tuple[float, list[float]]:
    """Seconds of the upload, and of the pings beside it."""

    def on_sent(sent: int, count: int) -> None:
        if sent % 200 == 0:
            say(f"{sent} of {count} frames")

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(sending.submit, "long", stage.settings(), paths, on_sent=on_sent)
        times = ping_while(pinging, lambda: not sent.done())
        sent.result()
    return time.monotonic() - began, times
