"""Finding the Pythons of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from buildtools.console import Stop

Version = tuple[int, int]

# Blender 5.1 went from Python 3.11 to 3.13.
FIRST_BLENDER_ON_313 = (5, 1)


def python_of_blender(version: str) -> Version:
    """The Python that the `bpy` package of this Blender version is built for."""
    try:
        major, minor = (int(part) for part in version.split(".")[:2])
    except ValueError:
        raise Stop(f"'{version}' is no version of Blender: write it like 4.5.15.") from None
    return (3, 13) if (major, minor) >= FIRST_BLENDER_ON_313 else (3, 11)


@cache
def find_python(version: Version) -> Path | None:
    """An interpreter of this version that can make virtual environments, or None."""
    if sys.version_info[:2] == version:
        return Path(sys.executable)
    return next((python for python in candidates(version) if works(python, version)), None)


def require_python(version: Version, purpose: str) -> Path:
    """As `find_python`, but says what to install where there is none."""
    python = find_python(version)
    if python is None:
        name = f"{version[0]}.{version[1]}"
        raise Stop(
            f"{purpose} needs Python {name}, which was not found here: install it with its venv module "
            f"(from python.org, your system's packages or `pyenv install {name}`) and run this again."
        )
    return python


def candidates(version: Version) -> Iterator[Path]:
    """Where a Python of this version may be: PATH, pyenv, and the launcher of Windows."""
    name = f"{version[0]}.{version[1]}"
    on_path = shutil.which(f"python{name}")
    if on_path:
        yield Path(on_path)
    yield from pyenv_pythons(name)
    if os.name == "nt" and shutil.which("py"):
        answer = output_of(["py", f"-{name}", "-c", "import sys; print(sys.executable)"])
        if answer:
            yield Path(answer)


def pyenv_pythons(name: str) -> Iterator[Path]:
    """pyenv's interpreters of one minor version, newest first. Its shims on PATH only work for the active versions."""
    pyenv = shutil.which("pyenv")
    root = os.environ.get("PYENV_ROOT") or (pyenv and output_of([pyenv, "root"])) or "~/.pyenv"
    versions = Path(root).expanduser() / "versions"
    patches = [folder for folder in versions.glob(f"{name}.*") if folder.name.removeprefix(f"{name}.").isdigit()]
    for folder in sorted(patches, key=lambda folder: int(folder.name.rpartition(".")[2]), reverse=True):
        yield folder / ("python.exe" if os.name == "nt" else "bin/python")


def works(python: Path, version: Version) -> bool:
    answer = output_of([str(python), "-I", "-c", "import sys, ssl, venv, ensurepip; print(*sys.version_info[:2])"])
    return answer == f"{version[0]} {version[1]}"


def output_of(command: list[str]) -> str:
    """What a small command prints, or an empty text if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
