"""A schedule without its work: the engine's own turns and parts over workers that take as long as they are told to."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from engine.parts import cut
from engine.service.dispatch import PARTS_A_WORKER
from engine.service.turns import Asking, Turns
from protocol.settings import EditSettings


@dataclass(frozen=True)
class Ran:
    """One piece of work on one worker, from when to when."""

    start: float
    end: float
    worker: int
    what: Asking


def run(
    jobs: Sequence[tuple[Asking, float]], workers: int, turns: Turns, arrive: dict[str, float] | None = None
) -> list[Ran]:
    """Do jobs of known costs, each when it has arrived (by its id; others at once); in the order of their starts."""
    arrive, costs = arrive or {}, dict(jobs)
    coming = sorted((one for one in costs if one.job_id in arrive), key=lambda one: arrive[one.job_id])
    waiting = [one for one in costs if one.job_id not in arrive]
    free, running, ran, busy, now = list(range(workers)), [], [], Counter(), 0.0
    while waiting or running or coming:
        while free and (one := turns.next(waiting, busy)):
            waiting.remove(one)
            turns.given(one, costs[one])
            busy[one.owner] += 1
            ran.append(Ran(now, now + costs[one], free.pop(), one))
            heapq.heappush(running, (ran[-1].end, len(ran), ran[-1]))
        if coming and (not running or arrive[coming[0].job_id] <= running[0][0]):
            waiting.append(coming.pop(0))
            now = arrive[waiting[-1].job_id]
            continue
        assert running, "somebody waits and all workers are free"
        now, _, ended = heapq.heappop(running)
        busy[ended.what.owner] -= 1
        free.append(ended.worker)
    return ran


def scaling() -> list[dict]:
    """How much faster 1, 2, 4 and 8 workers are: with 200 strips of 48 frames, and with one of 500 in parts.

    A worker takes a second for a frame. What parts compute beside their own frames is counted.
    """
    settings, rows = EditSettings(source="a", target="b"), []
    for workers in (1, 2, 4, 8):
        strips = [(Asking("a", "", f"strip-{number}", number), 48.0) for number in range(200)]
        parts = cut(settings, 500, workers * PARTS_A_WORKER if workers > 1 else 1)
        beside = 1.0 if len(parts) > 1 else 0.0
        long = [
            (Asking("a", "", f"part-{number}", number, begun=True), part.count + beside)
            for number, part in enumerate(parts)
        ]
        ends = [max(ran.end for ran in run(jobs, workers, Turns())) for jobs in (strips, long)]
        rows.append(
            {
                "workers": workers,
                "strips_speedup": round(200 * 48 / ends[0], 2),
                "long_strip_parts": len(parts),
                "long_strip_speedup": round(500 / ends[1], 2),
            }
        )
    return rows
