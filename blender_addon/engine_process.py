"""The engine as a process: started, watched and ended, without bpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .protocol import endpoint
from .protocol.errors import ProtocolError
from .trouble import Trouble, as_is

LOG_NAME = "engine.log"
NOT_INSTALLED = (
    "The engine is not installed.",
    "Press Install Engine in the FateZero sidebar, or name the engine's Python in the add-on's preferences.",
)


def venv_python(folder: Path) -> Path:
    """Where the interpreter of the virtual environment `folder` is."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


class EngineProcess:
    """One engine that ends with this process: it reads a pipe that closes when Blender ends, however that ends."""

    def __init__(self, python: Path, home: Path):
        """Start it; its files and its log are in `home`. `Trouble` where that is impossible."""
        self.home, self.log = home, home / LOG_NAME
        self._listened = False
        if not python.is_file():
            raise Trouble(*NOT_INSTALLED)
        try:
            home.mkdir(parents=True, exist_ok=True)
            with open(self.log, "wb") as log:
                self._process = subprocess.Popen(
                    [python, "-m", "engine", "serve", "--home", home, "--exit-with-parent"],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=home,
                    env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            raise Trouble(
                "The engine cannot be started: {reason}.",
                "Check the engine's Python in the add-on's preferences, or install the engine again.",
                reason=error.strerror,
            ) from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def endpoint(self) -> endpoint.Endpoint | None:
        """Where it listens, once it does."""
        try:
            found = endpoint.read(self.home)
        except ProtocolError:
            return None  # not written yet, or left over from another engine
        self._listened = found.pid == self.pid
        return found if self._listened else None

    def ended(self) -> Trouble:
        """Why it ended, in words: while it starts, its last line is mostly the reason."""
        if not self._listened:
            return Trouble(
                "The engine ended while it started ({reason}).",
                "Install it again, or name another Python in the add-on's preferences; {log} says more.",
                reason=self._last_words(),
                log=self.log,
            )
        return Trouble(
            "The engine ended by itself (exit code {code}).",
            "Edit the strip again, which starts it anew; {log} may say why.",
            code=self._process.wait(),
            log=self.log,
        )

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").split("\n")
        except OSError:
            lines = []
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")[:200]

    def end(self, patience: float = 5.0) -> None:
        """Let it end, and make it end if it does not within `patience` seconds."""
        self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def running_endpoint(home: Path) -> endpoint.Endpoint | None:
    """The endpoint of an engine that runs on `home` already, such as another Blender's."""
    try:
        return endpoint.read(home)
    except ProtocolError as error:
        if error.code == "cannot-read":
            raise as_is(error.sentence, error.remedy) from error
        return None
