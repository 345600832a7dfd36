"""Installing the engine into an environment of its own: a thread without bpy that runs venv and pip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from .engine_process import venv_python
from .trouble import Trouble

PREFERRED = ("python3.11", "python3.13", "python3.12")
"""The Pythons that the engine is tested with, best first."""
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SIZES = {True: (3.0, 8.0), False: (0.5, 2.0)}
"""Gigabytes to download and on disk, with and without CUDA."""

_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


class Installer:
    """One installation, running from the moment it is made. Read `running`, `line`, `fraction` and `trouble`."""

    def __init__(self, extension: Path, target: Path):
        """Install the engine that the folder `extension` carries, and what its requirements pin, into `target`."""
        self.running, self.fraction, self.line = True, 0.0, ""
        self.trouble: Trouble | None = None
        self.log = target.parent / "install.log"
        self._extension, self._target = extension, target
        self._process: subprocess.Popen | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="FateZero installer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, for when Blender ends; what was installed so far is removed."""
        self._stopped = True
        if self._process and self._process.poll() is None:
            self._process.terminate()
        self._thread.join(10.0)

    def _run(self) -> None:
        try:
            self._install()
        except Trouble as trouble:
            self.trouble = trouble
        except OSError as error:
            self.trouble = Trouble(
                "The engine cannot be installed: {reason}.", "Make room on that disk and try again.",
                reason=error.strerror,
            )  # fmt: skip
        finally:
            self.running = False

    def _install(self) -> None:
        wheel = next(iter(sorted(self._extension.glob("wheels-engine/fatezero_vse_engine-*.whl"))), None)
        if wheel is None:
            raise Trouble(
                "This copy of the add-on has no engine in it.",
                "Install the add-on from its released zip, or name the engine's Python in the preferences.",
            )
        base = find_python()
        unfinished = self._target.with_name(self._target.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        try:
            self._call(0.05, [base, "-m", "venv", "--copies" if sys.platform == "win32" else "--symlinks", unfinished])
            pip = [venv_python(unfinished), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
            if sys.platform == "linux" and not has_cuda():
                pip += ["--extra-index-url", CPU_INDEX]
            self._call(0.9, [*pip, "--requirement", self._extension / "requirements" / "engine.txt"])
            self._call(0.95, [*pip, "--no-deps", wheel])
            shutil.rmtree(self._target, ignore_errors=True)
            os.replace(unfinished, self._target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.fraction, self.line = 1.0, "Done"

    def _call(self, reach: float, command: list) -> None:
        """Run a command, its output into the log and its last line to the user, up to the fraction `reach`."""
        begin, lines = self.fraction, 0
        environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=environ,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        with self._process.stdout, open(self.log, "a", encoding="utf-8") as log:
            for line in self._process.stdout:
                log.write(line)
                log.flush()
                lines += 1
                self.line = line.strip()[:120] or self.line
                self.fraction = begin + (reach - begin) * lines / (lines + 100)  # pip does not say how many will come
        if self._process.wait() and not self._stopped:
            raise Trouble(
                "Installing the engine failed ({reason}).", "Check the network and try again; {log} says more.",
                reason=self._reason(), log=self.log,
            )  # fmt: skip
        if self._stopped:
            raise Trouble("Installing the engine was stopped.", "Install it again.")
        self.fraction = reach

    def _reason(self) -> str:
        found = re.findall(r"^(?:ERROR|Error): (.+)$", self.log.read_text("utf-8", "replace"), re.MULTILINE)
        return (found[-1] if found else self.line)[:200].rstrip(".")


current: Installer | None = None
"""The newest installation of this Blender."""


def start(extension: Path, target: Path) -> Installer:
    """Begin to install the engine."""
    global current
    current = Installer(extension, target)
    return current


def find_python() -> Path:
    """A Python that can make the engine's environment: a preferred one if there is one, else Blender's own."""
    for name in (*PREFERRED, sys.executable):
        path = shutil.which(name)
        if path is None:
            continue
        probe = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if probe.returncode == 0 and tuple(map(int, probe.stdout.strip().split("."))) >= (3, 11):
            return Path(path)
    raise Trouble(
        "No Python was found that the engine could run with.", "Install Python 3.11 and press Install Engine again."
    )


def has_cuda() -> bool:
    """Whether an NVIDIA driver is there."""
    return shutil.which("nvidia-smi") is not None


def sizes() -> tuple[float, float]:
    """Gigabytes to download and on disk, about."""
    return SIZES[sys.platform == "linux" and has_cuda()]
