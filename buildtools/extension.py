"""The add-on as a Blender extension: one zip per platform, built and validated by Blender's own extension tool.

A zip holds the add-on, `protocol/` inside it, wheels of the add-on's packages for every Python that Blender has there,
the engine as a wheel, and the pinned requirements that 'Install engine' uses.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from buildtools.console import StepFailed, Stop, megabytes, run_logged, say
from buildtools.environments import BUILD, REQUIREMENTS, ROOT, log_of, requirement_lines, run_pip, set_up_lock

MANIFEST = "blender_manifest.toml"

# Blender 4.2 to 5.0 has Python 3.11, 5.1 and later 3.13, Debian's Blender 3.14.
PYTHONS = ("3.11", "3.13", "3.14")

# The names that Blender and pip have for a platform. Blender itself needs glibc 2.28, and macOS 10.15 or 11.
PLATFORMS = {
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64",),
    "macos-x64": ("macosx_10_15_x86_64",),
}

NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
CODE_ONLY = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.md")


def build(tool: list, python: Path, output: Path) -> list[Path]:
    """Build and validate the zips; returns their paths in `output`.

    `tool` is the command of the extension tool, `python` the tools' environment, whose pip fetches and builds wheels.
    """
    log = log_of("extension")
    log.unlink(missing_ok=True)
    with set_up_lock(), tempfile.TemporaryDirectory(dir=BUILD) as folder:
        stage, zips = Path(folder, "source"), Path(folder, "zips")
        wheels = download_wheels(python)
        say("Building the engine's wheel.")
        fill_stage(stage, wheels, build_engine_wheel(python))
        zips.mkdir()
        say("Building one zip per platform with Blender's extension tool.")
        run_tool(tool, log, ["build", "--split-platforms", "--source-dir", stage, "--output-dir", zips])
        for path in sorted(zips.glob("*.zip")):
            run_tool(tool, log, ["validate", path])
            say(f"  {path.name} is valid ({megabytes(path.stat().st_size)})")
        output.mkdir(parents=True, exist_ok=True)
        for old in output.glob("*.zip"):
            old.unlink()
        return [Path(shutil.move(path, output / path.name)) for path in sorted(zips.glob("*.zip"))]


def for_this_platform(zips: list[Path]) -> Path:
    """The zip for the computer that this runs on."""
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}[sys.platform]
    kind = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "x64"
    return next(path for path in zips if path.stem.endswith(f"{system}_{kind}"))


def download_wheels(python: Path) -> list[Path]:
    """The wheels of requirements/host.txt for every platform and Python, kept in `.build/wheels`."""
    folder, record = BUILD / "wheels", BUILD / "wheels.json"
    key = hashlib.sha256(json.dumps([requirement_lines("host.txt"), PLATFORMS, PYTHONS]).encode()).hexdigest()
    if not (record.exists() and record.read_text() == key):
        say(f"Fetching the wheels of {', '.join(requirement_lines('host.txt'))} for all platforms (10 MB).")
        shutil.rmtree(folder, ignore_errors=True)
        log = log_of("wheels")
        log.unlink(missing_ok=True)
        for name, tags in PLATFORMS.items():
            for version in PYTHONS:
                target = ["--python-version", version, "--implementation", "cp"]
                for tag in tags:
                    target += ["--platform", tag]
                where = ["--only-binary=:all:", "--no-deps", "--dest", folder, "-r", REQUIREMENTS / "host.txt"]
                run_pip(python, f"the wheels for {name} and Python {version}", log, "download", *target, *where)
            say(f"  {name}")
        record.write_text(key)
    return sorted(folder.glob("*.whl"))


def build_engine_wheel(python: Path) -> Path:
    """The wheel `fatezero-vse-engine`, in `.build/engine-wheel`.

    It is built from a copy: setuptools leaves its working files where it builds, and would ship files that are gone.
    """
    destination = BUILD / "engine-wheel"
    shutil.rmtree(destination, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        source = Path(folder)
        for package in ("engine", "protocol"):
            shutil.copytree(ROOT / package, source / package, ignore=NOT_SHIPPED)
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copy(ROOT / name, source)
        arguments = ["--no-deps", "--no-build-isolation", "--wheel-dir", destination, source]
        run_pip(python, "the engine's wheel", log_of("engine-wheel"), "wheel", *arguments)
    return next(destination.glob("*.whl"))


def fill_stage(stage: Path, wheels: list[Path], engine_wheel: Path) -> None:
    """Lay out the extension's source folder as it goes into the zips."""
    shutil.copytree(ROOT / "blender_addon", stage, ignore=NOT_SHIPPED)
    shutil.copytree(ROOT / "protocol", stage / "protocol", ignore=CODE_ONLY)
    shutil.copy(ROOT / "LICENSE", stage)
    for folder, paths in (
        ("wheels", wheels),
        ("wheels-engine", [engine_wheel]),
        ("requirements", [REQUIREMENTS / "engine.txt"]),
    ):
        (stage / folder).mkdir()
        for path in paths:
            shutil.copy(path, stage / folder)
    manifest = stage / MANIFEST
    if not manifest.exists():
        raise Stop(f"blender_addon/{MANIFEST} is missing: without it the add-on is no extension.")
    manifest.write_text(with_wheels(manifest.read_text(encoding="utf-8"), wheels), encoding="utf-8")


def with_wheels(manifest: str, wheels: list[Path]) -> str:
    """The manifest's text with its `wheels` and `platforms` set. They stand before the first table, where TOML has them."""
    for field, values in (
        ("wheels", [f"./wheels/{wheel.name}" for wheel in wheels]),
        ("platforms", list(PLATFORMS)),
    ):
        manifest = re.sub(rf"^{field}\s*=\s*\[[^\]]*\]\n?", "", manifest, flags=re.MULTILINE)
        listed = "".join(f"  {json.dumps(value)},\n" for value in values)
        head, table, rest = re.match(r"(.*?)(^\[|\Z)(.*)", manifest, re.DOTALL | re.MULTILINE).groups()
        manifest = f"{head.rstrip()}\n\n{field} = [\n{listed}]\n\n{table}{rest}"
    tomllib.loads(manifest)
    return manifest


def run_tool(tool: list, log: Path, arguments: list) -> None:
    try:
        run_logged([*tool, *arguments], log)
    except StepFailed as failure:
        errors = re.findall(r"(?:FATAL_)?ERROR:? *(.*)", failure.output)
        reason = f" ({errors[0].strip()})" if errors else ""
        raise Stop(
            f"Blender's extension tool refused to {arguments[0]} the extension{reason}; its log is {log}."
        ) from None
