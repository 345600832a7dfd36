"""The environments in `.build/`: the host (Blender and the add-on's packages), the engine (torch), the tools.

Each is set up once. A record beside it (`.build/engine.json`) keeps a hash of all that decided it; while the hash
fits, nothing is done, and a set-up that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from buildtools.console import StepFailed, Stop, megabytes, run_logged, say
from buildtools.pythons import Version, find_python, output_of, python_of_blender, require_python

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
REQUIREMENTS = ROOT / "requirements"

CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# What `import bpy` wants of a Linux system beyond its C library, by the names of Debian and Ubuntu.
BLENDER_LIBRARIES = "libxi6 libxxf86vm1 libxfixes3 libxrender1 libgl1 libegl1 libxkbcommon0 libsm6"


def engine(cpu: bool = False) -> Path:
    """The engine's Python, set up where it is not yet; `cpu` takes PyTorch's CPU build and is remembered."""
    cpu = cpu or read_record("engine").get("cpu", False)
    version = preferred_python()
    if cpu or not sys.platform.startswith("linux"):
        size = "about 0.5 GB to download, 1.4 GB on disk"
    else:
        size = "0.5 GB to download with a CPU build of torch, about 3 GB with CUDA (7 GB on disk; --cpu leaves it out)"
    names = ("engine.txt", "test.txt", "fuzz.txt", "ray.txt")
    torch = next(line for line in requirement_lines("engine.txt") if line.startswith("torch=="))
    # torch goes in first and alone: what follows then finds its wish for a torch met and cannot bring a second build.
    # PyTorch's index has old versions of torch's own needs, so there they are left to the second step.
    first = [torch, "--index-url", CPU_INDEX, "--no-deps"] if cpu else [torch, "-c", REQUIREMENTS / "engine.txt"]

    def install(pip: Callable) -> None:
        pip("torch", *first)
        pip("the engine's packages", *(word for name in names for word in ("-r", REQUIREMENTS / name)))
        put_repository_on_path(interpreter(BUILD / "engine"))

    inputs = {"files": [requirement_lines(name) for name in names], "cpu": cpu}
    return ensure("engine", version, inputs, install, size, 2_000_000_000, "import torch, diffusers, av, zmq, msgspec")


def host(bpy: str | None = None) -> Path:
    """The Python that has the `bpy` package and the add-on's packages, for one version of Blender."""
    here = f'python_version == "{this_python()[0]}.{this_python()[1]}"'
    pinned = next(line for line in requirement_lines("bpy.txt") if line.startswith("bpy==") and here in line)
    bpy = bpy or pinned.removeprefix("bpy==").partition(" ")[0]
    version = python_of_blender(bpy)
    lines = [line for line in requirement_lines("bpy.txt") if not line.startswith("bpy==")]
    packages = [f"bpy=={bpy}", *lines, *requirement_lines("host.txt"), *requirement_lines("test.txt")]

    def install(pip: Callable) -> None:
        pip(f"bpy {bpy} and the add-on's packages", *packages)

    size = "about 0.4 GB to download, 1 GB on disk"
    return ensure(f"host-{bpy}", version, {"packages": packages}, install, size, 1_500_000_000, "import bpy")


def tools() -> Path:
    """The Python that has the linter and what builds wheels."""

    def install(pip: Callable) -> None:
        pip("the linter and setuptools", "-r", REQUIREMENTS / "dev.txt")

    inputs = {"files": requirement_lines("dev.txt")}
    return ensure("tools", preferred_python(), inputs, install, "about 15 MB", 100_000_000, "import ruff, setuptools")


def this_python() -> Version:
    return sys.version_info[:2]


def preferred_python() -> Version:
    """3.11 where it is found: then every Python that runs build.py shares what does not depend on Blender's."""
    return (3, 11) if find_python((3, 11)) else this_python()


def requirement_lines(name: str) -> list[str]:
    """The requirements in a file, without its comments: a reworded comment must not set up an environment again."""
    lines = (REQUIREMENTS / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def ensure(name: str, version: Version, inputs: dict, install: Callable, size: str, room: int, check: str) -> Path:
    """The interpreter of the environment `name`, made by `install(pip)` unless its record says that it is ready.

    `inputs` is what decides its content, `size` and `room` (bytes) what it takes, `check` an import that must work.
    """
    folder = BUILD / name
    python = interpreter(folder)
    key = key_of({"root": str(ROOT), "python": version, **inputs})
    if is_ready(name, key, python):
        return python
    BUILD.mkdir(exist_ok=True)
    with set_up_lock():
        record = read_record(name)
        if is_ready(name, key, python):
            return python
        base = require_python(version, f"The {name} environment")
        say(f"Setting up .build/{name} with Python {version[0]}.{version[1]} ({size}).")
        require_room(room)
        if record.get("key") != key and folder.exists():
            shutil.rmtree(folder)
        log_of(name).unlink(missing_ok=True)
        write_record(name, {"key": key, "ready": False, "cpu": inputs.get("cpu", False)})
        make_venv(folder, base)

        def pip(what: str, *arguments) -> None:
            say(f"  installing {what}")
            pip_install(python, f"{name}: {what}", log_of(name), *arguments)

        install(pip)
        check_imports(name, python, check)
        write_record(name, {"key": key, "ready": True, "cpu": inputs.get("cpu", False)})
        say(f"  .build/{name} is ready.")
    return python


def is_ready(name: str, key: str, python: Path) -> bool:
    record = read_record(name)
    return record.get("ready", False) and record.get("key") == key and python.exists()


def key_of(inputs: dict) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read_record(name: str) -> dict:
    try:
        return json.loads((BUILD / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_record(name: str, record: dict) -> None:
    (BUILD / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")


def log_of(name: str) -> Path:
    return BUILD / "logs" / f"{name}.log"


def interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def require_room(room: int) -> None:
    free = shutil.disk_usage(BUILD).free
    if free < room:
        raise Stop(
            f"There is not enough disk space: this needs {megabytes(room)} and {BUILD} has {megabytes(free)} free; "
            "make room and run the same command again."
        )


def make_venv(folder: Path, base: Path) -> None:
    """A virtual environment with pip. One that an interruption left unusable is made anew; else it is kept."""
    python = interpreter(folder)
    for broken in folder.glob("**/site-packages/*.dist-info"):
        # pip writes RECORD last: without it the package is half there, and pip would take it for whole.
        if not (broken / "RECORD").exists():
            shutil.rmtree(broken)
    if folder.exists() and output_of([str(python), "-m", "pip", "--version"]):
        return
    log = log_of(folder.name)
    say("  making a virtual environment")
    try:
        run_logged([base, "-m", "venv", "--clear", folder], log)
    except StepFailed as failure:
        raise explain(failure.output, "the virtual environment", log) from None


def pip_install(python: Path, what: str, log: Path, *arguments) -> None:
    """`pip install`; raises Stop with one sentence that names the package and the log."""
    run_pip(python, what, log, "install", *arguments)


def run_pip(python: Path, what: str, log: Path, *arguments) -> None:
    command = [python, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments, "--progress-bar", "off"]
    try:
        run_logged(command, log)
    except StepFailed as failure:
        raise explain(failure.output, what, log) from None


NO_DISK = re.compile(r"No space left on device|Errno 28\b|not enough space on the disk", re.IGNORECASE)
NO_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|Max retries exceeded|"
    r"Failed to establish a new connection|Temporary failure in name resolution|Connection refused|"
    r"Connection reset by peer|Network is unreachable|connection broken by|SSLError",
    re.IGNORECASE,
)
NO_PACKAGE = re.compile(
    r"No matching distribution found for (\S+)|Failed (?:building wheel|to build)[^\n]*? ([\w.-]+)\s*$|"
    r"requested ([\w.-]+==\S+)",
    re.IGNORECASE | re.MULTILINE,
)


def explain(output: str, what: str, log: Path) -> Stop:
    """The one sentence for a failed step, from what it printed."""
    if NO_DISK.search(output):
        return Stop(
            f"The disk is full: make room for {BUILD} and for temporary files ({tempfile.gettempdir()}) and run the same "
            "command again; it goes on from here."
        )
    if NO_NETWORK.search(output):
        return Stop(
            f"The package index cannot be reached (while installing {what}): check the network or the proxy and run the "
            f"same command again, it goes on from here; pip's log is {log}."
        )
    found = NO_PACKAGE.search(output)
    name = next(filter(None, found.groups())) if found else what
    return Stop(f"Installing failed at {name}: read the reason at the end of {log}, then run the same command again.")


def put_repository_on_path(python: Path) -> None:
    """Let the engine's environment import the repository's packages from any folder, as an installed wheel would."""
    site = output_of([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    (Path(site) / "fatezero_vse.pth").write_text(f"{ROOT}\n", encoding="utf-8")


def check_imports(name: str, python: Path, check: str) -> None:
    """Prove the environment by importing what it is for; a missing system library is named with its packages."""
    log = log_of(name)
    try:
        run_logged([python, "-c", check], log)
    except StepFailed as failure:
        library = re.search(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file", failure.output)
        if library:
            raise Stop(
                f"Blender's module needs the system library {library.group(1)}, which is missing here: on Debian or "
                f"Ubuntu run `apt-get install {BLENDER_LIBRARIES}`, then this again."
            ) from None
        raise Stop(f"The {name} environment does not work ('{check}' fails): the reason is in {log}.") from None


@contextmanager
def set_up_lock() -> Iterator[None]:
    """One set-up at a time: two would install into the same folder."""
    with open(BUILD / "lock", "a+b") as file:
        if not lock(file):
            say("Another build.py is setting up; waiting for it.")
            while not lock(file):
                time.sleep(0.5)
        yield


def lock(file: BinaryIO) -> bool:
    """Lock the file until it is closed; False where another process holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
