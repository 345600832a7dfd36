"""Killed at any moment: the worker, the server or both, in the midst of a job, and what has become of the job then."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.numpy

from benchmarks.service.stage import Stage
from protocol.connection import Connection
from protocol.errors import ProtocolError
from tests.service.harness import PATIENCE, Engine, finished, gone

STEPS, FRAMES = 24, 2
VICTIMS = ("worker", "server", "both")
GONE = ("connection-lost", "no-engine", "time-out")


@dataclass
class Kills:
    """What the rounds have shown. `faults` names each thing that should not be; none: no job was lost."""

    rounds: int = 0
    jobs_lost: int = 0
    """Accepted and then unknown, ended otherwise than done, or done with other bytes than an undisturbed run's."""
    kept: int = 0
    """Rounds in which something was checkpointed at the kill."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """What of a job was checkpointed: steps of the inversion, and of the edit."""

    inverted: int = 0
    edited: int = 0

    @classmethod
    def of(cls, home: Path, job_id: str, since: float) -> Kept:
        """What lies in the engine's folder for the one job that has run since that time (seconds since the epoch)."""
        files = [path.name for path in (home / "cache").glob("inversions/*/*") if path.stat().st_mtime >= since]
        latents, maps = (sum(name.startswith(kind) for name in files) for kind in ("latents-", "maps-"))
        edited = 0
        for path in (home / "jobs").glob(f"*/{job_id}/edit"):
            edited = edited_steps(path)
        return cls(max(0, min(latents - 1, maps)), edited)


def edited_steps(state: Path) -> int:
    """Steps of an edit that are done in the state that it keeps in this file; OSError or ValueError where it is none."""
    tensors = safetensors.numpy.load(state.read_bytes()[hashlib.sha256().digest_size :])
    return tensors["step"].item() + 1 if "step" in tensors else 0


@contextlib.contextmanager
def ended_with(engine: Engine) -> Iterator[Engine]:
    """The engine until the block is left."""
    try:
        yield engine
    finally:
        if engine.process.poll() is None:
            engine.end()


def kill_rounds(folder: Path, rounds: int, seed: int, say: Callable[[str], None]) -> Kills:
    """Run so many jobs on an engine that is killed during each, and the same on one that nobody disturbs."""
    source, kills = random.Random(seed), Kills()
    for name in ("disturbed", "quiet"):
        (folder / name).mkdir()
    disturbed, quiet = Stage(folder / "disturbed"), Stage(folder / "quiet")
    with ended_with(quiet.start()) as calm, calm.connect() as other:
        seconds = _undisturbed(quiet, other, folder, -1)[1]
        seconds = _undisturbed(quiet, other, folder, -2)[1]  # with the model loaded
        round_ = Round(disturbed, kills)
        try:
            for number in range(rounds):
                victim, delay = source.choice(VICTIMS), source.uniform(0.0, 1.2 * seconds)
                what = f"round {number} (seed {seed}): {victim} killed after {delay:.2f} s"
                found = round_.play(number, victim, delay, folder / f"found-{number}", what)
                right, _ = _undisturbed(quiet, other, folder, number)
                if found is not None and found != right:
                    kills.jobs_lost += 1
                    kills.faults.append(f"{what}: other bytes than an undisturbed run's")
                kills.rounds += 1
                say(f"{what}; {len(kills.faults)} faults so far")
        finally:
            round_.close()
    return kills


def result_of(connection: Connection, job_id: str, folder: Path) -> list[bytes]:
    """All files of a result."""
    fetched = connection.fetch(job_id, folder)
    paths = [*fetched.frames, *(path for paths in fetched.masks.values() for path in paths)]
    return [path.read_bytes() for path in paths]


def _undisturbed(stage: Stage, connection: Connection, folder: Path, number: int) -> tuple[list[bytes], float]:
    """The round's result on the engine that nobody disturbs, and the seconds that it took."""
    began, job_id = time.monotonic(), f"round-{number}"
    connection.submit(job_id, stage.settings(steps=STEPS), stage.clip(FRAMES, seed=number + 1000))
    assert finished(connection, job_id).state == "done"
    return result_of(connection, job_id, folder / f"right-{number}"), time.monotonic() - began


class Round:
    """One round after the other on one engine's folder."""

    def __init__(self, stage: Stage, kills: Kills):
        self._stage, self._kills = stage, kills
        self._engine = stage.start()

    def close(self) -> None:
        """End the engine, if it runs."""
        if self._engine.process.poll() is None:
            self._engine.end()

    def play(self, number: int, victim: str, delay: float, folder: Path, what: str) -> list[bytes] | None:
        """Do a job while `victim` is killed `delay` seconds after its beginning; None where there is no result."""
        job_id, frames = f"round-{number}", self._stage.clip(FRAMES, seed=number + 1000)
        since, accepted = time.time(), False
        killer = Killer(self._engine, victim, lambda: Kept.of(self._stage.home, job_id, since))
        thread = ThreadPoolExecutor(1)
        killing = thread.submit(killer.kill, delay)
        try:
            while True:
                try:
                    with self._engine.connect() as connection:
                        connection.hello(timeout=PATIENCE)
                        if accepted and job_id not in {status.job_id for status in connection.jobs()}:
                            return self._lost(f"{what}: it was accepted, and is unknown now")
                        connection.submit(job_id, self._stage.settings(steps=STEPS), frames)
                        accepted = True
                        self._watch(connection, job_id, killer, killing, what)
                        status = connection.status(job_id)
                        if status.state != "done":
                            return self._lost(f"{what}: it {status.state} ({status.error})")
                        if [status.job_id for status in connection.jobs()].count(job_id) != 1:
                            self._kills.faults.append(f"{what}: it is listed twice")
                        found = result_of(connection, job_id, folder)
                        connection.taken(job_id)
                        return found
                except ProtocolError as error:
                    if error.code not in GONE or victim == "worker":
                        raise
                    self._start_again(what)
        finally:
            thread.shutdown()
            killing.result()  # raises what the killer met: a round without its look at what was kept shows nothing
            self._kills.kept += killer.kept != Kept()
            if not gone(self._engine.process.pid):
                self._check_files(what)

    def _watch(self, connection: Connection, job_id: str, killer: Killer, killing: Future, what: str) -> None:
        """Wait for the job's end; nothing that was checkpointed at the kill is done again after it."""
        deadline, again = time.monotonic() + PATIENCE, killer.done
        while True:
            assert time.monotonic() < deadline, f"{what}: the job has not ended"
            for status in connection.events():
                # what comes before another worker has begun may be of the time before the kill
                again = again or (killer.done and status.stage in ("", "read", "load"))
                kept = dict(invert=killer.kept.inverted, edit=killer.kept.edited).get(status.stage, 0)
                if again and status.job_id == job_id and status.step < kept:
                    self._kills.faults.append(f"{what}: {status.stage} step {status.step} again, {kept} were kept")
            if connection.status(job_id).final and killing.done():
                return
            time.sleep(0.02)

    def _start_again(self, what: str) -> None:
        self._engine.ended()
        self._check_files(what)
        self._engine = self._stage.start()
        if left := self._engine.leftovers():
            self._kills.faults.append(f"{what}: left over {left}")

    def _check_files(self, what: str) -> None:
        """The journal is sound, and no file has a blob's name without its bytes."""
        home = self._stage.home
        with contextlib.closing(sqlite3.connect(home / "journal.sqlite3")) as journal:
            (sound,) = journal.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            self._kills.faults.append(f"{what}: the journal: {sound}")
        for path in (home / "blobs").glob("*/*"):
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                self._kills.faults.append(f"{what}: {path} is half written")

    def _lost(self, fault: str) -> None:
        self._kills.jobs_lost += 1
        self._kills.faults.append(fault)


class Killer:
    """Kills an engine's worker, its server or both, and looks at once at what they have kept."""

    def __init__(self, engine: Engine, victim: str, look: Callable[[], Kept]):
        self._engine, self._victim, self._look = engine, victim, look
        self.kept = Kept()
        self.done = False

    def kill(self, delay: float) -> None:
        """Do it after so many seconds, with SIGKILL."""
        time.sleep(delay)
        workers = [] if self._victim == "server" else [pid for pid in self._engine.workers()[-1:] if not gone(pid)]
        server = [] if self._victim == "worker" else [self._engine.process.pid]
        for pid in workers + server:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kept = self._look()
        self.done = True
