"""How long the engine takes to answer a ping while its worker computes, while it loads a model, and while it hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.service.kills import ended_with
from benchmarks.service.stage import Stage
from protocol.connection import Connection
from tests.service.harness import PATIENCE, wait_until

PAUSE = 0.002
"""Seconds between two pings."""


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Of pings' times, in milliseconds."""
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return {"p50_ms": round(1000 * p50, 2), "p99_ms": round(1000 * p99, 2), "pings": len(ordered)}


def ping_while(connection: Connection, goes_on: Callable[[], bool]) -> list[float]:
    """Seconds of one ping after the other."""
    times = []
    while goes_on():
        times.append(connection.ping(timeout=PATIENCE))
        time.sleep(PAUSE)
    return times


def pings(folder: Path, count: int, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Percentiles of `count` pings in each of the three situations; of loading, of as many as there is time for."""
    stage, found = Stage(folder), {}
    with ended_with(stage.start()) as engine, engine.connect() as connection, engine.connect() as asking:
        connection.hello(timeout=PATIENCE)

        def measure(situation: str, goes_on: Callable[[], bool]) -> None:
            found[situation] = percentiles(ping_while(connection, goes_on))
            say(f"while the worker {situation}: {found[situation]}")

        def denoises() -> bool:
            status = asking.status("endless")
            return status.stage == "invert" and status.step > 0

        asking.submit("endless", stage.settings(steps=999), stage.clip(8))
        measure("loads", lambda: not denoises())
        measure("computes", _times(count))
        os.kill(engine.workers()[-1], signal.SIGSTOP)
        measure("hangs", _times(count))
        os.kill(engine.workers()[-1], signal.SIGCONT)
        asking.cancel("endless")
        wait_until(lambda: asking.status("endless").final, "its end")
    return found


def _times(count: int) -> Callable[[], bool]:
    """Whether to go on: true for so many times."""
    left = iter(range(count))
    return lambda: next(left, None) is not None
