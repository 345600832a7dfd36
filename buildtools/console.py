"""What the user reads while build.py works, and how a failure is told."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

QUIET_SECONDS = 10


class Stop(Exception):
    """The command cannot go on; the text is one sentence for the user, with the way out."""


class StepFailed(Exception):
    """A logged command failed; `output` is what it printed."""

    def __init__(self, output: str):
        super().__init__(output)
        self.output = output


def say(text: str) -> None:
    """A line about what is being done. It goes to stderr: stdout belongs to results and to the programs that we run."""
    print(text, file=sys.stderr, flush=True)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def run_logged(command: list, log: Path, **options) -> None:
    """Run `command` with its output at the end of `log`; every ten seconds, show how far it is.

    Raises StepFailed with its output when its exit code is not 0. `options` go to `subprocess.Popen`.
    """
    command = [os.fspath(part) for part in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a+", encoding="utf-8", errors="replace") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **options)
        start = shown = time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - shown > QUIET_SECONDS:
                    shown = time.monotonic()
                    say(f"  {shown - start:4.0f} s  {last_line(output_since(log, begin))[:100]}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        raise StepFailed(output_since(log, begin))


def output_since(log: Path, begin: int) -> str:
    with open(log, "rb") as file:
        file.seek(begin)
        return file.read().decode("utf-8", errors="replace")


def last_line(output: str) -> str:
    """The last line that tells of progress; pip's warnings and its housekeeping do not."""
    idle = (
        "WARNING",
        "Attempting uninstall",
        "Found existing installation",
        "Uninstalling",
        "Successfully uninstalled",
    )
    lines = (line.strip() for line in reversed(output.splitlines()))
    return next((line for line in lines if line and not line.startswith(idle)), "")
