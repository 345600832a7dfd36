"""Installing the engine into an environment of its own: a thread without bpy that runs venv and pip."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

import msgspec

from . import installed, pythons
from .children import Errand
from .engine_process import venv_python
from .protocol.endpoint import process_runs
from .trouble import Trouble

DEVICES = ("CPU", "CUDA") if sys.platform in ("linux", "win32") else ("APPLE",)
"""What this platform's engine can be installed for."""
SIZES = {"CPU": (0.5, 2.0), "CUDA": (3.0, 8.0), "APPLE": (0.4, 1.5)}
"""Gigabytes to download and on disk."""
INDEXES = {
    ("linux", "CPU"): "https://download.pytorch.org/whl/cpu",
    ("win32", "CUDA"): "https://download.pytorch.org/whl/cu130",
}
"""Where PyTorch is that the Python package index does not have: there, Linux' is for CUDA and Windows' is not."""
TALKATIVE_PIP = "pip>=25.2"
"""Tells how many bytes it has fetched, and goes on with a download that was cut."""

_UNPACKED = 0.75
"""Fraction of the whole at which everything has been downloaded."""
_STAGES = {
    "python": "Looking for a Python",
    "environment": "Making the environment",
    "download": "Downloading {file}",
    "unpack": "Unpacking",
    "finish": "Finishing",
}


class Installer(Errand):
    """One installation, running from the moment it is made. Read `running`, `told`, `fraction` and `trouble`.

    What has been downloaded stays until it has succeeded: after a failure, or `cancel`, the next one goes on with it.
    """

    def __init__(self, extension: Path, target: Path, device: str, python: Path | None = None):
        """Install the engine that the folder `extension` carries, and what its requirements pin, into `target`."""
        super().__init__("FateZero installer")
        self.running, self.fraction = True, 0.0
        self.stage, self.file = _STAGES["python"], ""
        """What goes on, in words; they may hold `{file}`."""
        self.trouble: Trouble | None = None
        self.log = log_of(target)
        self._extension, self._target, self._device, self._named = extension, target, device, python
        self._fetched, self._fetching = 0.0, 0.0
        self._thread.start()

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
        wheel, parts = installed.wheel_of(self._extension), installed.carried(self._extension)
        if wheel is None or parts is None:
            raise Trouble(
                "This copy of the add-on has no engine in it.",
                "Install the add-on from its released zip, or name the engine's Python in the preferences.",
            )
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        note, parts = installed.read(self._target), msgspec.structs.replace(parts, device=self._device)
        if note and msgspec.structs.replace(note.parts, wheel=parts.wheel) == parts:
            self._renew(wheel)
        else:
            self._make(wheel)
        self.stage = _STAGES["finish"]
        installed.note_down(self._target, parts, installed.version_of(wheel))
        shutil.rmtree(downloads_of(self._target), ignore_errors=True)
        self.fraction = 1.0

    def _renew(self, wheel: Path) -> None:
        """All packages are there already: only the engine itself is exchanged, which takes no download."""
        self.stage = _STAGES["unpack"]
        pip = [venv_python(self._target), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        self._call(0.95, [*pip, "--no-deps", "--force-reinstall", wheel])

    def _make(self, wheel: Path) -> None:
        """A new environment beside the old one, which is exchanged for it in the end."""
        requirements = installed.requirements_of(self._extension)
        pinned = re.findall(r"^\w\S*==\S+", requirements.read_text("utf-8"), re.MULTILINE)
        _check_platform(self._device)
        self._check_disk(bool(pinned))
        _claim(self._target)
        unfinished = self._target.with_name(f"{self._target.name}.part-{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        base = pythons.find(self._named)
        try:
            self.stage = _STAGES["environment"]
            self._call(0.03, [base, "-m", "venv", "--copies" if sys.platform == "win32" else "--symlinks", unfinished])
            pip = [venv_python(unfinished), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            install = [*pip, "install", "--cache-dir", downloads_of(self._target)]
            if pinned:
                self._call(0.04, [*install, "--upgrade", TALKATIVE_PIP])
                install += ["--progress-bar", "raw"]
            if index := INDEXES.get((sys.platform, self._device)):
                install += ["--extra-index-url", index]
            self._call(0.9, [*install, "--requirement", requirements])
            self.stage = _STAGES["unpack"]
            self._call(0.95, [*install, "--no-deps", wheel])
            self._exchange(unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _exchange(self, unfinished: Path) -> None:
        try:
            if self._target.exists():
                installed.remove(self._target)
        except OSError as error:
            raise Trouble(
                "The engine that is installed cannot be replaced: it is in use ({reason}).",
                "Stop it, in every Blender that uses it, and try again.",
                reason=error.strerror,
            ) from error
        os.replace(unfinished, self._target)

    def _check_disk(self, downloads: bool) -> None:
        """What is downloaded and what is made of it are on the disk at the same time."""
        if not downloads:
            return
        needed, free = sum(SIZES[self._device]), free_gigabytes(self._target)
        if free < needed:
            raise Trouble(
                "There is not enough room for the engine: {needed:.1f} GB are needed in {folder}, and {free:.1f} GB are free.",
                "Make room on that disk, or choose what takes less.",
                needed=needed, free=free, folder=self._target.parent,
            )  # fmt: skip

    def _call(self, reach: float, command: list) -> None:
        """Run a command, its output into the log, up to the fraction `reach`."""
        if self.cancelled:
            raise _was_cancelled()
        begin, lines = self.fraction, 0
        # Blender's own settings for Python must not reach the engine's.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        self._start(command, environment)
        with open(self.log, "a", encoding="utf-8") as log:
            for line in self._child.lines():
                if self._note_progress(line):
                    continue
                log.write(line)
                log.flush()
                lines += 1
                if reach < _UNPACKED:
                    self.fraction = max(self.fraction, begin + (reach - begin) * lines / (lines + 10))
        if self._child.wait() and not self.cancelled:
            raise Trouble(
                "Installing the engine failed ({reason}).", "Check the network and try again; {log} says more.",
                reason=self._reason(), log=self.log,
            )  # fmt: skip
        if self.cancelled:
            raise _was_cancelled()
        self.fraction = reach

    def _note_progress(self, line: str) -> bool:
        """Read what pip says about its downloads; whether the line is nothing but a number of bytes."""
        if found := re.match(r"Progress (\d+) of (\d+)", line):
            self._fetching = int(found[1]) / 1e9
        elif found := re.match(r"\s*(Downloading|Using cached) (\S+) \(([\d.]+) ([kMG]?)B\)", line):
            self.stage, self.file = _STAGES["download"], found[2].rpartition("/")[2].split("-")[0]
            self._fetched += self._fetching
            self._fetching = 0.0
            if found[1] == "Using cached":
                self._fetched += float(found[3]) * {"": 1e-9, "k": 1e-6, "M": 1e-3, "G": 1.0}[found[4]]
        elif line.startswith("Installing collected packages"):
            self.stage, self.fraction = _STAGES["unpack"], max(self.fraction, _UNPACKED)
        else:
            return False
        part = min(1.0, (self._fetched + self._fetching) / SIZES[self._device][0])
        self.fraction = max(self.fraction, 0.04 + (_UNPACKED - 0.04) * part)
        return line.startswith("Progress ")

    def _reason(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines() or ["without a word"]
        found = re.findall(r"^(?:ERROR|Error): (.+)$", "\n".join(lines), re.MULTILINE)
        return (found[-1] if found else lines[-1])[:200].rstrip(".")


current: Installer | None = None
"""The newest installation of this Blender."""


def start(extension: Path, target: Path, device: str, python: Path | None = None) -> Installer:
    """Begin to install the engine."""
    global current
    current = Installer(extension, target, device, python)
    return current


def log_of(target: Path) -> Path:
    """What venv and pip say."""
    return target.parent / "install.log"


def downloads_of(target: Path) -> Path:
    """What an installation that did not end well has fetched."""
    return target.with_name(target.name + ".downloads")


def best_device() -> str:
    """What this machine's engine had best compute on: an NVIDIA driver brings `nvidia-smi`."""
    return "CUDA" if "CUDA" in DEVICES and shutil.which("nvidia-smi") else DEVICES[0]


def free_gigabytes(target: Path) -> float:
    """Of the disk that `target` would be on."""
    return shutil.disk_usage(next(folder for folder in target.parents if folder.exists())).free / 1e9


def _check_platform(device: str) -> None:
    if device == "APPLE" and platform.machine() != "arm64":
        raise Trouble(
            "PyTorch, which the engine is built on, is no longer made for Macs with Intel processors.",
            "Use an engine on another computer: choose Remote in the add-on's preferences.",
        )


def _claim(target: Path) -> None:
    """Remove what Blenders have left that were killed; `Trouble` where another one is at it."""
    for left in target.parent.glob(f"{target.name}.part-*"):
        pid = int(left.name.rpartition("-")[2])
        if pid != os.getpid() and process_runs(pid):
            raise Trouble("Another Blender is installing the engine.", "Wait until it is done.")
        shutil.rmtree(left, ignore_errors=True)


def _was_cancelled() -> Trouble:
    return Trouble("Installing the engine was cancelled.", "What has been downloaded is kept for the next try.")
