"""The engine as a process: started, watched and ended, without bpy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .protocol import endpoint
from .protocol.endpoint import Endpoint
from .protocol.errors import ProtocolError
from .protocol.messages import Ends
from .trouble import Trouble, as_is

LOG_NAME = "engine.log"
MAX_LOG_BYTES = 256 * 1024
"""Of what engines print, before the file is begun anew; what they log has files of its own."""
NOT_INSTALLED = (
    "The engine is not installed.",
    "Press Install Engine in the FateZero sidebar, or name the engine's Python in the add-on's preferences.",
)


def venv_python(folder: Path) -> Path:
    """Where the interpreter of the virtual environment `folder` is."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


_DETACHED = (
    {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    if sys.platform == "win32"
    else {"start_new_session": True}
)
"""What ends Blender, such as Ctrl-C in its terminal, must not end the engine that others use."""
_HELD = "Another engine already serves "
"""How an engine begins that ends because its home has one."""


class EngineProcess:
    """One engine, started from here and not bound to here.

    It reads a pipe that closes when Blender ends, however that ends; then it ends as `when_alone` says, once nobody
    is connected to it.
    """

    def __init__(self, python: Path, home: Path, when_alone: Ends, stale: Endpoint | None = None):
        """Start it; its files and its log are in `home`. `Trouble` where that is impossible.

        `stale` is what an engine has left there that did not answer. An endpoint that merely is there may be of one that
        another Blender has started just now.
        """
        self.home, self.log = home, home / LOG_NAME
        self._stale, self._listened = stale, False
        if not python.is_file():
            raise Trouble(*NOT_INSTALLED)
        try:
            home.mkdir(parents=True, exist_ok=True)
            with open(self.log, "ab") as log:
                if log.tell() > MAX_LOG_BYTES:
                    log.truncate(0)
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    [python, "-m", "engine", "serve", "--home", home, "--exit-with-parent", "--when-alone", when_alone],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=home,
                    env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                    **_DETACHED,
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

    def endpoint(self) -> Endpoint | None:
        """Where it listens, once it does; or where the engine listens that it had to make way for."""
        found = running_endpoint(self.home)
        if found is None or found == self._stale:
            return None  # not written yet, or left over from a dead engine whose process id another program has now
        self._listened = True
        return found

    def ended(self) -> Trouble:
        """Why it ended, in words: while it starts, its last line is mostly the reason."""
        if not self._listened:
            return Trouble(
                "The engine ended while it started ({reason}).",
                "Install it again, or name another Python in the add-on's preferences; {log} says more.",
                reason=(self._words() or ["without a word"])[-1][:200],
                log=self.log,
            )
        return Trouble(
            "The engine ended by itself (exit code {code}).",
            "Start it again: its jobs go on where they were; {log} may say why.",
            code=self._process.wait(),
            log=self.log,
        )

    def held_off(self) -> bool:
        """Whether it has ended because another engine has the home, such as one that is about to listen or to end."""
        return not self.running() and any(line.startswith(_HELD) for line in self._words())

    def _words(self) -> list[str]:
        """The lines that have been printed since it was started, by it and by engines that it had to make way for."""
        try:
            with open(self.log, "rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        return [line.strip() for line in lines if line.strip()]

    def leave(self) -> None:
        """Let it live or end by itself."""
        self._process.stdin.close()

    def wait(self, patience: float) -> bool:
        """Whether it ends within `patience` seconds."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, patience: float = 5.0) -> None:
        """Tell it to end, and make it end if it has not within `patience` seconds."""
        self.leave()
        self._process.terminate()
        if not self.wait(patience):
            self._process.kill()
            self._process.wait()


def running_endpoint(home: Path) -> Endpoint | None:
    """The endpoint of an engine that runs on `home` already, such as another Blender's."""
    try:
        return endpoint.read(home)
    except ProtocolError as error:
        if error.code == "cannot-read":
            raise as_is(error.sentence, error.remedy) from error
        return None
