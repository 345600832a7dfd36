"""A process whose output is read line by line, and that is ended with all that it has started. Without bpy."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator


class Child:
    """One, running from the moment it is made; its errors come among its output."""

    def __init__(self, command: list, environment: dict[str, str]):
        """Start `command`; `OSError` where it cannot be started."""
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=environment | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            start_new_session=sys.platform != "win32",
        )

    def lines(self) -> Iterator[str]:
        """What it says, as it says it."""
        with self._process.stdout:
            yield from self._process.stdout

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait()

    def end(self) -> None:
        """End it and its own children, at once; harmless where it has ended."""
        if self._process.poll() is not None:
            return
        if sys.platform == "win32":
            subprocess.run(
                ["taskkill", "/T", "/F", "/PID", str(self._process.pid)],
                capture_output=True,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


class Errand:
    """Work in a thread of its own, by one process after another; what these have fetched is kept for the next try."""

    def __init__(self, name: str):
        """Not begun yet; `name` is the thread's."""
        self.cancelled = False
        self._child: Child | None = None
        """The process that runs."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def cancel(self) -> None:
        """End it, and all processes that it has started, soon."""
        self.cancelled = True
        if self._child:
            self._child.end()

    def stop(self) -> None:
        """The same, and wait for it: for when Blender ends."""
        self.cancel()
        self._thread.join(10.0)

    def _start(self, command: list, environment: dict[str, str]) -> None:
        """Have `_child` be a new process; `OSError` where it cannot be started."""
        self._child = Child(command, environment)
        if self.cancelled:  # while it was being started
            self._child.end()

    def _run(self) -> None:
        """The work itself, in the thread; for each kind of errand its own."""
        raise NotImplementedError
