"""A fuzzer of everything that decodes: whatever the bytes are, only the errors that are named may escape.

`python -m benchmarks.service.decoders --seconds 60` runs it under atheris, which keeps what reaches new lines of our
code and goes on from there; where atheris is not installed (it is for Linux), under chance alone. The last line is the
number of executions; what escapes ends it with a traceback and the bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import re
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from benchmarks.service.mutation import mutate

atheris = None
if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import atheris

        # what it shall know the lines of must be loaded under its eyes
        with atheris.instrument_imports(include=["protocol", "engine.service"]):
            import engine.service.journal  # noqa: F401
            import protocol.wire  # noqa: F401

from engine.service import accounts, pipes
from engine.service.accounts import Accounts
from engine.service.journal import Journal
from protocol import endpoint, keys, messages, models, wire
from protocol.errors import ProtocolError
from protocol.settings import EditSettings, SettingsError, check

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_BYTES = 16 * 1024
"""Of one input: everything that is special about longer ones are sizes, which the tests of the limits try."""
BLOB, KEY = "ab" * 32, "k" * 40
JOB = "job-1"


@dataclass(frozen=True)
class Target:
    """Something that decodes: `run` returns, or raises what must not escape. `seeds` are good inputs."""

    run: Callable[[bytes], None]
    seeds: list[bytes]
    decode: Callable[[bytes], object] = msgspec.msgpack.decode
    encode: Callable[[object], bytes] = msgspec.msgpack.encode


def unpack(body: bytes, sender: str) -> None:
    """A message: read, and what was read is said again and read as the same. Settings are checked."""
    for parts in ([wire.MAGIC + b"\x01" + body], [wire.MAGIC + b"\x00" + body, b"chunk"], [body]):
        try:
            message = wire.unpack(parts, sender=sender).message
            again = wire.pack(message)
        except ProtocolError:
            continue
        assert wire.pack(wire.unpack(again, sender=sender).message) == again
        if isinstance(message, messages.Submit):
            with contextlib.suppress(SettingsError):
                check(message.settings)


def read_pipe(data: bytes) -> None:
    """What a worker says."""
    pipe = io.BytesIO(data)
    with contextlib.suppress(ValueError):
        while pipes.read(pipe) is not None:
            pass


class Files:
    """The files of an engine's folder that are read, in the empty folder `home`."""

    def __init__(self, home: Path):
        self._home = home
        self._journal = Journal(home / "journal.sqlite3")
        self._journal.add(pipes.Work(job_id=JOB, settings=SETTINGS, frames=[BLOB], fps=24.0))
        self._rows = sqlite3.connect(home / "journal.sqlite3", isolation_level=None)
        self._rows.execute("PRAGMA synchronous = OFF")

    def endpoint(self, data: bytes) -> None:
        """The endpoint file."""
        self._put(endpoint.FILE_NAME, data)
        with contextlib.suppress(ProtocolError):
            endpoint.read(self._home)

    def models(self, data: bytes) -> None:
        """The checkpoints' names, which are sent to clients."""
        self._put(models.FILE_NAME, data)
        known = models.known(self._home)
        wire.pack(messages.Welcome(version=1, engine="", device="", models=known, limits={}))
        for name in [*known, "x"]:
            with contextlib.suppress(ProtocolError):
                models.resolve(self._home, name)

    def accounts(self, data: bytes) -> None:
        """The clients' keys."""
        self._put(accounts.FILE_NAME, data)
        known = Accounts(self._home, KEY)
        assert known.owner(KEY) == accounts.LOCAL and known.owner("x") is None

    def key(self, data: bytes) -> None:
        """The engine's own key."""
        self._put(accounts.SERVER_KEY_NAME, data)
        with contextlib.suppress(ProtocolError):
            keys.load_or_make(self._home / accounts.SERVER_KEY_NAME)

    def work(self, data: bytes) -> None:
        """What the journal keeps of a job."""
        self._rows.execute("UPDATE jobs SET work = ?", (data,))
        work = self._journal.work(accounts.LOCAL, JOB)
        assert work is None or pipes.decode(pipes.encode(work)), "what is read can be given to a worker"

    def status(self, data: bytes) -> None:
        """How a job stands, by the journal."""
        self._rows.execute("UPDATE jobs SET status = ?", (data,))
        wire.pack(messages.Job(status=self._journal.status(accounts.LOCAL, JOB)))

    def close(self) -> None:
        """Close the journal."""
        self._rows.close()
        self._journal.close()

    def _put(self, name: str, data: bytes) -> None:
        path = self._home / name
        path.unlink(missing_ok=True)  # some file systems wait for the disk when a file is cut and written again
        path.write_bytes(data)


SETTINGS = EditSettings(source="a red ball", target="a blue ball", blend_source=("ball",), mask_words=("ball",))
STATUS = messages.JobStatus(
    job_id=JOB, state="done", notes=["A note."], frames=[BLOB], masks={"ball": [BLOB]}, timings={"invert": 1.5}
)
MESSAGES = [
    messages.Hello(request=1, client="a test", versions=[1]),
    messages.Submit(request=2, job_id=JOB, settings=SETTINGS, frames=[BLOB], fps=24.0),
    messages.Upload(request=3, blob=BLOB, size=5, offset=0),
    messages.Move(request=4, job_id=JOB, before="job-2"),
    messages.WhenAlone(request=5, ends="never"),
    messages.Wanted(request=6, missing=[messages.Missing(BLOB, 3)]),
    messages.Jobs(request=7, statuses=[STATUS]),
    messages.Refusal(request=8, code="busy", sentence="No.", remedy="Wait."),
]
FROM_WORKER = [
    pipes.Ready(device="cpu"),
    pipes.Reported(job_id=JOB, stage="invert", step=1, steps=2, fraction=0.5),
    pipes.Finished(job_id=JOB, frames=[BLOB], masks={"ball": [BLOB]}, notes=["A note."], timings={"edit": 1.0}),
]


def targets(files: Files) -> list[Target]:
    """All of them."""
    said = [messages.encode(message) for message in MESSAGES]
    pipe = b"".join(struct.pack("<I", len(body)) + body for body in map(pipes.encode, FROM_WORKER))
    work = pipes.Work(job_id=JOB, settings=SETTINGS, frames=[BLOB], fps=24.0)
    address = dict(address="tcp://127.0.0.1:9", server_key=KEY, client_key=KEY, client_secret=KEY, pid=os.getpid())
    json = partial(Target, decode=msgspec.json.decode, encode=msgspec.json.encode)
    return [
        Target(partial(unpack, sender="client"), said),
        Target(partial(unpack, sender="engine"), said),
        Target(read_pipe, [pipe]),
        Target(files.work, [pipes.encode(work)]),
        Target(files.status, [messages.encode(STATUS)]),
        json(files.endpoint, [msgspec.json.encode(address)]),
        json(files.models, [b'{"sd-1": "/models/sd"}']),
        json(files.accounts, [msgspec.json.encode({"ada": KEY})]),
        json(files.key, [msgspec.json.encode(dict(public=KEY, secret=KEY))]),
    ]  # fmt: skip


class Fuzzer:
    """Inputs for `targets`: the first byte of each says which one it is for."""

    def __init__(self, targets: list[Target]):
        self._targets = targets
        self.seeds = [bytes([number]) + seed for number, target in enumerate(targets) for seed in target.seeds]

    def run(self, data: bytes) -> None:
        """Try one input."""
        self._targets[data[0] % len(self._targets)].run(data[1:])

    def mutate(self, data: bytes, source: random.Random) -> bytes:
        """Another input for the same target."""
        target = self._targets[data[0] % len(self._targets)]
        return data[:1] + mutate(source, data[1:], target.decode, target.encode)[: MAX_BYTES - 1]


def by_chance(fuzzer: Fuzzer, seconds: float, seed: int) -> int:
    """Mutations of the seeds, for so long; returns how many were tried."""
    source, until, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = source.choice(fuzzer.seeds)
        for _ in range(20):
            data = fuzzer.mutate(data, source)
            try:
                fuzzer.run(data)
            except BaseException:
                print(f"after {count} executions, seed {seed}: {data!r}", file=sys.stderr)
                raise
            count += 1
    return count


def by_coverage(fuzzer: Fuzzer, seconds: int, seed: int, folder: Path) -> None:
    """Under libFuzzer, which ends the process itself: with code 0, or 77 where something escaped."""
    for number, data in enumerate(fuzzer.seeds):
        (folder / f"seed-{number}").write_bytes(data)

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        return fuzzer.mutate(bytes(data) or b"\0", random.Random(seed))[:most]

    options = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-seed={seed}", "-print_final_stats=1"]
    # no memory limit of libFuzzer's: it counts what sqlite and the libraries keep
    options += ["-rss_limit_mb=0", "-timeout=10", f"-artifact_prefix={folder}/", str(folder)]
    atheris.Setup([sys.argv[0], *options], lambda data: fuzzer.run(data or b"\0"), custom_mutator=mutated)
    atheris.Fuzz()


def fuzz(seconds: float, seed: int) -> int:
    """Run the fuzzer in a process of its own; returns the number of executions, `AssertionError` for what escaped."""
    command = [sys.executable, "-m", "benchmarks.service.decoders", f"--seconds={seconds:.0f}", f"--seed={seed}"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, f"seed {seed}: {result.stderr[-8000:]}"
    return executions_of(result.stdout.splitlines() + result.stderr.splitlines())


def executions_of(lines: Iterable[str]) -> int:
    """The number of executions in what the fuzzer has printed."""
    found = [re.fullmatch(r"(?:executions|stat::number_of_executed_units): +(\d+)", line.strip()) for line in lines]
    return int(next(filter(None, found)).group(1))


def main(argv: list[str] | None = None) -> None:
    """Fuzz for a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31))
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fatezero-fuzz-") as folder:
        home, corpus = Path(folder, "home"), Path(folder, "corpus")
        home.mkdir()
        corpus.mkdir()
        with contextlib.closing(Files(home)) as files:
            fuzzer = Fuzzer(targets(files))
            if atheris:
                by_coverage(fuzzer, options.seconds, options.seed, corpus)
            print(f"executions: {by_chance(fuzzer, options.seconds, options.seed)}")


if __name__ == "__main__":
    main()
