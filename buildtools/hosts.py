"""Blender's side of a command: the `bpy` package in an environment of ours, or an installed Blender."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from buildtools import environments
from buildtools.console import Stop, say
from buildtools.environments import BUILD, REQUIREMENTS, ROOT, log_of, read_record, requirement_lines, write_record
from buildtools.pythons import output_of

INSIDE_BLENDER = ROOT / "buildtools" / "inside_blender.py"


@dataclass(frozen=True)
class Host:
    """Something that runs Python with `bpy` in it.

    `command` runs a script or `-m module` with arguments, `extension` Blender's extension tool.
    """

    name: str
    command: list
    extension: list

    def run(self, arguments: list, engine: Path | None = None) -> int:
        """Run a script or `-m module`; returns the exit code. `engine` is the Python that the add-on shall start."""
        variables = {"PYTHONPATH": str(ROOT)} | ({"FATEZERO_ENGINE_PYTHON": str(engine)} if engine else {})
        return subprocess.run([*self.command, *arguments], env=os.environ | variables).returncode


def bpy_package(version: str | None) -> Host:
    """The `bpy` package of a Blender version, or of the one that fits the Python that runs build.py."""
    python = environments.host(version)
    site = Path(output_of([str(python), "-c", "import sysconfig; print(sysconfig.get_path('platlib'))"]))
    tool = next(site.glob("bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    return Host(python.parent.parent.name, [python], [python, tool])


def installed_blender(path: str) -> Host:
    """An installed Blender, which keeps its own Python; our packages lie in a folder of ours, for its Python's version.

    Its Python may have no pip, so the pip of the tools' environment fetches them.
    """
    blender = shutil.which(path)
    ask = "import sys, bpy; print('FOUND', bpy.app.version_string.split()[0], '%d.%d' % sys.version_info[:2])"
    answer = output_of([blender, "--background", "--factory-startup", "--python-expr", ask]) if blender else ""
    found = re.search(r"^FOUND (\S+) (\S+)$", answer, re.MULTILINE)
    if not found:
        raise Stop(f"{path} is no Blender that runs here: give the path of its executable.")
    version, python_version = found.groups()
    name = f"blender-packages-{python_version}"
    packages = packages_for(name, python_version)
    batch = [blender, "--background", "--factory-startup"]
    command = [*batch, "--python-exit-code", "1", "--python", INSIDE_BLENDER, "--", packages]
    return Host(f"Blender {version}", command, [*batch, "--command", "extension"])


def packages_for(name: str, python_version: str) -> Path:
    """A folder with the add-on's packages and the tests' runner for one version of Python, filled once."""
    folder = BUILD / name
    key = hashlib.sha256("\n".join(requirement_lines("host.txt") + requirement_lines("test.txt")).encode()).hexdigest()
    if read_record(name).get("key") != key:
        tools = environments.tools()
        say(f"Fetching the add-on's packages for Python {python_version} (5 MB).")
        shutil.rmtree(folder, ignore_errors=True)
        log_of(name).unlink(missing_ok=True)
        target = ["--target", folder, "--python-version", python_version, "--only-binary=:all:", "--no-deps"]
        files = ["-r", REQUIREMENTS / "host.txt", "-r", REQUIREMENTS / "test.txt"]
        environments.run_pip(tools, "the add-on's packages", log_of(name), "install", *target, *files)
        write_record(name, {"key": key})
    return folder
