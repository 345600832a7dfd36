"""Which Python the engine's environment can be made with. Without bpy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .trouble import Trouble

OLDEST = (3, 11)
"""The first Python that the engine runs with."""
PREFERRED = ("python3.11", "python3.13", "python3.12")
"""Those that the engine is tested with come first."""
_FURTHER = ("/opt/homebrew/bin", "/usr/local/bin")
"""Where programs are that a Blender from macOS's Finder does not have on its PATH."""
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_PATIENCE = 30.0


def find(named: Path | None) -> Path:
    """The one that the user names, else Blender's own, else one that is found; `Trouble` where none can be used."""
    if named is not None:
        if not can_make_environments(named):
            raise Trouble(
                "The Python {python} cannot make the engine's environment.",
                "Name a Python 3.11 or newer that has venv and ensurepip, or leave the field empty.",
                python=named,
            )
        return named
    for path in _candidates():
        if can_make_environments(path):
            return path
    raise Trouble(
        "Blender's own Python cannot make the engine's environment, and no other was found that could.",
        "Install Python 3.11 or 3.13 from python.org or your system's packages (with venv), and try again.",
    )


def can_make_environments(python: Path) -> bool:
    """Whether it is new enough and has what a virtual environment takes, which Debian's lacks."""
    try:
        probe = subprocess.run(
            [python, "-I", "-c", _PROBE], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        version = tuple(map(int, probe.stdout.strip().split(".")))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0 and version >= OLDEST


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    for name in PREFERRED:
        if found := shutil.which(name):
            yield Path(found)
        yield from (Path(folder, name) for folder in _FURTHER)
    if sys.platform == "win32":
        programs = Path.home() / "AppData" / "Local" / "Programs" / "Python"
        yield from (programs / name.replace(".", "").title() / "python.exe" for name in PREFERRED)
    versions = Path.home() / ".pyenv" / "versions"
    for name in PREFERRED:
        yield from sorted(versions.glob(f"{name.removeprefix('python')}.*/bin/python"), reverse=True)
