"""`python -m engine status | jobs | cancel | logs`: look after an engine that runs on this machine, without torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.cli import count
from engine.service import logs as log_lines
from engine.service.home import LOG_NAME
from protocol import endpoint
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.messages import JobStatus

FOLLOW_EVERY = 0.5
"""Seconds between two looks at a log that is followed."""


def status(argv: Sequence[str]) -> int:
    """Print how the engine is; exit code 1 where none runs."""
    return _asked(_parser("status", "Say whether an engine runs here, and how it is.").parse_args(argv), _status)


def jobs(argv: Sequence[str]) -> int:
    """Print this user's newest jobs, oldest first."""
    return _asked(_parser("jobs", "List the running engine's jobs, oldest first.").parse_args(argv), _jobs)


def cancel(argv: Sequence[str]) -> int:
    """End one job."""
    parser = _parser("cancel", "End a job: at once where it waits, at its next step where it runs.")
    parser.add_argument("job", metavar="ID", help="as `python -m engine jobs` shows it, or its beginning")
    return _asked(parser.parse_args(argv), _cancel)


def logs(argv: Sequence[str]) -> int:
    """Print the end of the log; it is there without an engine too."""
    parser = _parser("logs", "Show the engine's log.")
    parser.add_argument("--lines", type=count, default=40, help="how many (%(default)s)")
    parser.add_argument("--worker", action="store_true", help="the worker's log, with all that libraries print")
    parser.add_argument("--follow", action="store_true", help="go on showing lines as they come, until Ctrl-C")
    options = parser.parse_args(argv)
    path = options.home / "logs" / ("worker.log" if options.worker else LOG_NAME)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in log_lines.readable(list(deque(file, maxlen=options.lines))):
                print(line)
            while options.follow:
                for line in log_lines.readable(file.readlines()):
                    print(line, flush=True)
                time.sleep(FOLLOW_EVERY)
    except OSError as error:
        print(f"There is no log at {path} ({error.strerror}). Name the engine's folder with --home.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _status(connection: Connection, options: argparse.Namespace) -> None:
    welcome, found = connection.hello(), endpoint.read(options.home)
    counts = Counter(job.state for job in connection.jobs())
    print(f"Engine {welcome.engine} runs: process {found.pid}, {found.address}.")
    print(f"  answers in  {connection.ping() * 1000:.1f} ms")
    print(f"  device      {welcome.device}")
    print(f"  models      {', '.join(welcome.models)}")
    print(f"  jobs        {', '.join(f'{count} {state}' for state, count in counts.items()) or 'none'}")
    print(f"  folder      {options.home}")


def _jobs(connection: Connection, _options: argparse.Namespace) -> None:
    for job in connection.jobs():
        print(f"{job.job_id}  {job.state:9}  {_detail(job)}".rstrip())


def _detail(job: JobStatus) -> str:
    if job.error:
        return job.error.sentence
    if job.state == "queued":
        return f"{job.ahead} before it"
    if job.state == "running":
        left = "" if job.seconds_left is None else f", {job.seconds_left:.0f} s left"
        return f"{job.stage} {job.step}/{job.steps}, {job.fraction:.0%}{left}"
    return "not fetched yet" if job.state == "done" and not job.taken else ""


def _cancel(connection: Connection, options: argparse.Namespace) -> None:
    ids = [job.job_id for job in connection.jobs() if job.job_id.startswith(options.job)]
    if len(ids) > 1:
        raise ProtocolError("no-such-job", f"{len(ids)} jobs begin with '{options.job}'.", "Give more of the id.")
    job = connection.cancel(ids[0] if ids else options.job)
    print(f"{job.job_id} is {job.state}{'' if job.final else ': it ends at its next step'}.")


def _asked(options: argparse.Namespace, ask: Callable[[Connection, argparse.Namespace], None]) -> int:
    try:
        with Connection(endpoint.read(options.home), client="the command line") as connection:
            ask(connection, options)
    except ProtocolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m engine {command}", description=description)
    parser.add_argument("--home", type=Path, default=endpoint.default_home(), help="the engine's folder (%(default)s)")
    return parser
