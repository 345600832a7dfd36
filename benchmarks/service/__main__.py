"""Measure the service: `python build.py service [--quick] [--rounds N] [--jobs N] [--frames N] [--seconds N]`.

Each section is kept in output/service when it is done, and found there by the next run with the same options and the
same code. A full run writes benchmarks/results/service.json; `--quick` shows its figures only.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.service import decoders, growth, kills, pings, sessions, wires
from benchmarks.service.stage import Stage
from tests.service.harness import REPOSITORY

MEASURED = ("engine", "protocol", "benchmarks/service", "tests/service/harness.py")
"""What decides the figures: a change of any of it has them measured again."""
QUICK = dict(rounds=3, jobs=20, frames=50, seconds=2)

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the measurements: `measure` gets an empty folder, a seed and how to say how far it is."""

    name: str
    measure: Callable[[Path, int, Say], object]
    option: str
    """The command line's words that decide how much of it is done."""


def sections(options: argparse.Namespace) -> list[Section]:
    """All of them, in their order."""

    def killed(folder: Path, seed: int, say: Say) -> object:
        return dataclasses.asdict(kills.kill_rounds(folder, options.rounds, seed, say))

    def fuzzed(folder: Path, seed: int, say: Say) -> object:
        decoded = decoders.fuzz(options.seconds, seed)
        say(f"{decoded} executions of the decoders")
        asked = sessions.fuzz(Stage(folder), options.seconds, seed)
        say(f"{asked} messages in sessions")
        return {"executions": decoded, "messages": asked}

    seconds, frames = f"--seconds {options.seconds}", f"--frames {options.frames}"
    return [
        Section("kills", killed, f"--rounds {options.rounds}"),
        Section("pings", lambda folder, _, say: pings.pings(folder, 20 * options.seconds, say), seconds),
        Section("upload", lambda folder, _, say: growth.upload(folder, options.frames, say), frames),
        Section("jobs", lambda folder, _, say: growth.jobs(folder, options.jobs, say), f"--jobs {options.jobs}"),
        Section("fuzz", fuzzed, seconds),
        Section("wire", lambda folder, _, say: wires.throughput(folder, options.seconds / 20, say), seconds),
    ]


def measured(section: Section, kept: Path, seed: int) -> object:
    """The section's figures, as they were found before or as they are found now."""
    path, key = kept / f"{section.name}.json", f"{section.option} {_digest()}"
    if path.exists() and (found := json.loads(path.read_text(encoding="utf-8")))["key"] == key:
        _say(section.name, "kept from an earlier run")
        return found["figures"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fatezero-service-") as folder:
        figures = section.measure(Path(folder), seed, lambda text: _say(section.name, text))
    _say(section.name, f"done in {time.monotonic() - began:.0f} s")
    kept.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "figures": figures}, indent=1) + "\n", encoding="utf-8")
    return figures


def summary(figures: dict, chosen: list[Section], command: str) -> dict:
    """What goes into service.json, by the keys that all benchmarks' readers know; pings are those of the worst case."""
    all_pings = [*figures["pings"].values(), figures["upload"]["pings"]]
    came_from = {
        "kill_rounds": "kills", "jobs_lost": "kills", "ping_p50_ms": "pings", "ping_p99_ms": "pings",
        "jobs_run": "jobs", "server_rss_growth_bytes": "jobs", "fuzz_executions": "fuzz", "wire": "wire",
    }  # fmt: skip
    options = {section.name: section.option for section in chosen}
    return {
        "command": command,
        "commands": {key: f"python build.py service {options[name]}" for key, name in came_from.items()},
        "kill_rounds": figures["kills"]["rounds"],
        "jobs_lost": figures["kills"]["jobs_lost"],
        "ping_p50_ms": max(found["p50_ms"] for found in all_pings),
        "ping_p99_ms": max(found["p99_ms"] for found in all_pings),
        "jobs_run": figures["jobs"]["jobs"],
        "server_rss_growth_bytes": max(figures["jobs"]["growth_bytes"], figures["upload"]["growth_bytes"]),
        "fuzz_executions": figures["fuzz"]["executions"] + figures["fuzz"]["messages"],
        "wire": figures["wire"],
    }


def table(figures: dict, chosen: list[Section]) -> str:
    """All figures for people, as a table in Markdown."""
    kills, upload, jobs, fuzz = (figures[name] for name in ("kills", "upload", "jobs", "fuzz"))
    rows = [
        ("kills", "rounds of SIGKILL to worker, server or both", kills["rounds"]),
        ("kills", "jobs lost", kills["jobs_lost"]),
        ("kills", "rounds in which something was checkpointed at the kill", kills["kept"]),
        ("kills", "checkpointed steps done again, torn files, damaged journals", len(kills["faults"])),
    ]
    situations = {f"while the worker {name}": found for name, found in figures["pings"].items()}
    situations |= {f"while {upload['frames']} frames are uploaded": upload["pings"]}
    for situation, found in situations.items():
        section = "upload" if "frames" in situation else "pings"
        rows.append((section, f"ping {situation}, p50 / p99 of {found['pings']}", f"{_ms(found)}"))
    rows += [
        ("upload", f"server's memory grew over {upload['frames']} frames", _megabytes(upload["growth_bytes"])),
        ("jobs", f"server's memory grew over {jobs['jobs']} jobs", _megabytes(jobs["growth_bytes"])),
        ("fuzz", "executions of the decoders", fuzz["executions"]),
        ("fuzz", "messages answered in sessions", fuzz["messages"]),
    ]
    for found in figures["wire"]:
        rate = f"{found['frames_per_second']:g} frames/s, {found['mb_per_second']} MB/s"
        rows.append(("wire", f"1080p {found['frame']}, {found['path']}, {found['direction']}", rate))
    options = {section.name: section.option for section in chosen}
    lines = ["| What | Figure | `python build.py service …` |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {what} | {figure} | `{options[name]}` |" for name, what, figure in rows)])


def main(argv: list[str] | None = None) -> int:
    """Measure what is not known yet, print the table, and return 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(prog="build.py service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute of all; the other options' defaults are small")
    parser.add_argument("--rounds", type=int, help="of killing processes (50)")
    parser.add_argument("--jobs", type=int, help="over which the server's memory is watched (1000)")
    parser.add_argument("--frames", type=int, help="of the clip that is uploaded (2000)")
    parser.add_argument("--seconds", type=int, help="for fuzzing each of decoders and sessions, and pings by it (100)")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31), help="of all that is random")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "output" / "service", help="where figures are kept")
    options = parser.parse_args(argv)
    usual = QUICK if options.quick else dict(rounds=50, jobs=1000, frames=2000, seconds=100)
    for name, value in usual.items():
        setattr(options, name, getattr(options, name) or value)
    chosen = sections(options)
    figures = {section.name: measured(section, options.out, options.seed) for section in chosen}
    print(table(figures, chosen))
    if not options.quick:
        command = "python build.py service " + " ".join(dict.fromkeys(section.option for section in chosen))
        path = REPOSITORY / "benchmarks" / "results" / "service.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(summary(figures, chosen, command), indent=1) + "\n", encoding="utf-8")
        _say("all", f"written to {path.relative_to(REPOSITORY)}")
    for fault in figures["kills"]["faults"]:
        print(fault, file=sys.stderr)
    return 1 if figures["kills"]["jobs_lost"] or figures["kills"]["faults"] else 0


def _digest() -> str:
    sha = hashlib.sha256()
    for path in sorted(found for name in MEASURED for found in _sources(REPOSITORY / name)):
        sha.update(path.read_bytes())
    return sha.hexdigest()[:16]


def _sources(path: Path) -> list[Path]:
    return list(path.rglob("*.py")) if path.is_dir() else [path]


def _ms(found: dict) -> str:
    return f"{found['p50_ms']:g} / {found['p99_ms']:g} ms"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _say(section: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {section}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
