"""Measure a farm: `python -m benchmarks.service.farm [--rounds N] [--strips N] [--quick]`, in an environment with Ray.

Rounds in which something of a Ray cluster is killed at a random moment of a strip that is edited in parts; a cut of many
small strips with a worker killed in the middle; and how a schedule grows with its workers, by simulation. A full run
writes benchmarks/results/farm.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.service.cluster import Farm
from benchmarks.service.kills import edited_steps, ended_with
from benchmarks.service.simulation import scaling
from benchmarks.service.stage import Stage
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.messages import JobStatus
from tests.service.harness import PATIENCE, REPOSITORY, Engine, finished

LONG, STEPS = 32, 20
"""Frames of a strip in parts, and its steps."""
NODES = 2
VICTIMS = ("worker", "actor", "node", "head")

Say = Callable[[str], None]


@dataclass
class Faults:
    """What the rounds have shown. `faults` names each thing that should not be; none: nothing was lost or doubled."""

    rounds: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    """How often each kind of victim was killed."""
    in_midst: int = 0
    """Rounds in which a part had begun to keep its steps at the kill, and the job was not done."""
    faults: list[str] = field(default_factory=list)


class Watch:
    """Looks at what a job's parts have kept, in a thread: no step is ever kept that was kept before."""

    def __init__(self, home: Path, job_id: str):
        self._pattern, self._home = f"jobs/*/{job_id}/*/edit", home
        self.furthest: dict[str, int] = {}
        self.again: list[str] = []
        self._over = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._looking = self._thread.submit(self._run)

    def close(self) -> None:
        """End it; raises what it met: one that saw nothing shows nothing."""
        self._over.set()
        self._thread.shutdown()
        self._looking.result()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for path in self._home.glob(self._pattern):
                with contextlib.suppress(OSError, ValueError):
                    step, part = edited_steps(path), path.parent.name
                    if step < self.furthest.get(part, 0):
                        self.again.append(f"part {part}: step {step} after {self.furthest[part]}")
                    self.furthest[part] = max(step, self.furthest.get(part, 0))


def fault_rounds(folder: Path, rounds: int, seed: int, say: Say, victims: Sequence[str] = VICTIMS) -> Faults:
    """So many strips on a cluster of which something is killed during each, and the same on one worker in peace."""
    source, found = random.Random(seed), Faults()
    disturbed, quiet = (_stage(folder / name) for name in ("disturbed", "quiet"))
    with contextlib.ExitStack() as undo:
        farm = undo.enter_context(Farm(NODES))
        other = undo.enter_context(undo.enter_context(ended_with(quiet.start())).connect())
        engine = undo.enter_context(ended_with(disturbed.start("--pool", "ray", "--address", farm.address)))
        _edited(other, quiet, "warm", -1)
        with engine.connect() as connection:
            _, seconds = _edited(connection, disturbed, "warm", -1)
            _, seconds = _edited(connection, disturbed, "warmer", -2)
        for number in range(rounds):
            victim = victims[number % len(victims)]
            delay = source.uniform(0.1, 0.9) * seconds
            what = f"round {number} (seed {seed}): {victim} killed after {delay:.2f} s"
            right, _ = _edited(other, quiet, f"round-{number}", number)
            _round(engine, disturbed, farm, number, victim, delay, right, found, what)
            found.rounds += 1
            found.killed[victim] = found.killed.get(victim, 0) + 1
            say(f"{what}; {len(found.faults)} faults so far")
    return found


def _round(
    engine: Engine, stage: Stage, farm: Farm, number: int, victim: str, delay: float, right: JobStatus, found: Faults,
    what: str,
) -> None:  # fmt: skip
    job_id = f"round-{number}"
    watch = Watch(stage.home, job_id)
    with engine.connect() as connection:
        connection.submit(job_id, stage.settings(steps=STEPS), stage.clip(LONG, seed=number + 1000))
        time.sleep(delay)
        found.in_midst += bool(watch.furthest) and not connection.status(job_id).final
        _kill(farm, victim)
        if victim == "head":
            _head_back(connection, farm, job_id, found, what)
        status = finished(connection, job_id)
        if status.state != "done":
            found.faults.append(f"{what}: it {status.state} ({status.error})")
        elif (status.frames, status.masks) != (right.frames, right.masks):
            found.faults.append(f"{what}: other bytes than one worker makes in peace")
        if [status.job_id for status in connection.jobs()].count(job_id) != 1:
            found.faults.append(f"{what}: it is listed twice")
        connection.taken(job_id)
        _whole(connection, engine, found, what)
    watch.close()
    found.faults += [f"{what}: {again}" for again in watch.again]
    for path in (stage.home / "blobs").glob("*/*"):
        if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
            found.faults.append(f"{what}: {path} is half written")


def _kill(farm: Farm, victim: str) -> None:
    match victim:
        case "node":
            farm.lose()
            farm.join()
        case "head":
            farm.lose_head()
        case _:
            with contextlib.suppress(IndexError, psutil.Error):  # none is there at this moment
                (farm.workers() if victim == "worker" else farm.actors())[0].send_signal(signal.SIGKILL)


def _head_back(connection: Connection, farm: Farm, job_id: str, found: Faults, what: str) -> None:
    """The engine says that the cluster is lost, if it has not done the job before it noticed; then a head comes back."""
    deadline = time.monotonic() + PATIENCE
    while not (status := connection.status(job_id)).final and "Ray cluster" not in status.waits:
        if time.monotonic() > deadline:
            found.faults.append(f"{what}: the engine never said so")
            break
        time.sleep(0.1)
    farm.bring_head_back()


def _whole(connection: Connection, engine: Engine, found: Faults, what: str) -> None:
    """The farm has all its workers again before the next round."""
    deadline = time.monotonic() + PATIENCE
    while f"({NODES} workers)" not in connection.hello(timeout=PATIENCE).device:
        if time.monotonic() > deadline:
            found.faults.append(f"{what}: the workers have not come back")
            return
        time.sleep(0.1)


def many_strips(folder: Path, count: int, say: Say) -> dict:
    """A cut of small strips through Ray, a worker killed in the middle; what was done, and how long it took."""
    stage = _stage(folder)
    with Farm(NODES) as farm, ended_with(stage.start("--pool", "ray", "--address", farm.address)) as engine:
        with engine.connect() as connection:
            connection.hello(timeout=PATIENCE)
            began, killed, stored = time.monotonic(), False, 0
            names = [f"strip-{number:03}" for number in range(count)]
            done: set[str] = set()
            queue = list(names)
            deadline = time.monotonic() + count * PATIENCE
            while len(done) < count:
                assert time.monotonic() < deadline, "the strips have not been done"
                with contextlib.suppress(ProtocolError):  # the queue is full: the rest comes later
                    while queue:
                        frames = stage.clip(2, seed=int(queue[0][-3:]) + 5000)
                        connection.submit(queue[0], stage.settings(steps=2), frames)
                        queue.pop(0)
                for name in names:
                    if name not in done and connection.status(name).final:
                        done.add(name)
                stored = max(stored, farm.stored_bytes())
                if not killed and len(done) >= count // 2:
                    farm.workers()[0].send_signal(signal.SIGKILL)
                    killed = True
                    say(f"a worker was killed after {len(done)} strips")
                time.sleep(0.2)
            statuses = [connection.status(name) for name in names]
            seconds = time.monotonic() - began
        starts = [line["job"] for line in engine.logged("job started")]
    return {
        "strips": count,
        "workers": NODES,
        "done": sum(status.state == "done" for status in statuses),
        "failed": sum(status.state == "failed" for status in statuses),
        "frames": sum(len(status.frames) for status in statuses),
        "begun_again": len(starts) - len(set(starts)),
        "seconds": round(seconds, 1),
        "object_store_peak_bytes": stored,
    }


def _edited(connection: Connection, stage: Stage, job_id: str, number: int) -> tuple[JobStatus, float]:
    began = time.monotonic()
    connection.submit(job_id, stage.settings(steps=STEPS), stage.clip(LONG, seed=number + 1000))
    status = finished(connection, job_id)
    assert status.state == "done", status.error
    return status, time.monotonic() - began


def _stage(folder: Path) -> Stage:
    folder.mkdir()
    return Stage(folder)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the figures, and return 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service.farm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of killing something (%(default)s)")
    parser.add_argument("--strips", type=int, default=200, help="small ones, with a worker killed (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of each kind and ten strips; writes no file")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31), help="of all that is random")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.strips = len(VICTIMS), 10

    def say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="fatezero-farm-") as folder:
        strips = many_strips(Path(folder) / "strips", options.strips, say)
        say(f"strips: {strips}")
        faults = fault_rounds(Path(folder), options.rounds, options.seed, say)
    figures = {
        "command": f"python -m benchmarks.service.farm --rounds {options.rounds} --strips {options.strips}",
        "faults": dataclasses.asdict(faults),
        "strips": strips,
        "schedule": scaling(),
    }
    print(json.dumps(figures, indent=1))
    if not options.quick:
        path = REPOSITORY / "benchmarks" / "results" / "farm.json"
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        say(f"written to {path.relative_to(REPOSITORY)}")
    return 1 if faults.faults or strips["done"] != strips["strips"] else 0


if __name__ == "__main__":
    sys.exit(main())
