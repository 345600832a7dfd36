"""The command line of build.py: what each command does, in the order of a developer's day."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from buildtools import environments, extension
from buildtools.console import Stop, megabytes, say
from buildtools.environments import BUILD, ROOT
from buildtools.hosts import Host, bpy_package, installed_blender
from buildtools.samples import big_buck_bunny

OUTPUT = ROOT / "output"

# What needs bpy; everything else under tests/ runs in the engine's environment.
HOST_TESTS = (
    "tests/blender_addon",
    "tests/benchmarks/test_addon_cost.py",
    "tests/benchmarks/test_render.py",
    "tests/benchmarks/test_quality_floors.py",
    "tests/demo",
)
ENGINE_TESTS = ("tests/protocol", "tests/service", "tests/engine", "tests/build", "tests/benchmarks")

PYTEST_NO_TESTS = 5


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Arguments that build.py does not know go on to the program it runs."""
    parser = command_line()
    options, extra = parser.parse_known_args(arguments)
    if extra[:1] == ["--"]:
        # It tells build.py's options from the program's, as in `world -- --help`.
        extra = extra[1:]
    if extra and not options.passes_on:
        parser.error(f"{options.command} takes no {' '.join(extra)}")
    try:
        return options.run(options, extra)
    except Stop as stop:
        say(f"build.py: {stop}")
        return 1
    except OSError as error:
        way_out = "make room and" if error.errno == errno.ENOSPC else "mend that and"
        say(f"build.py: {error.strerror or error} ({error.filename or ROOT}): {way_out} run the same command again.")
        return 1
    except KeyboardInterrupt:
        say("build.py: stopped; run the same command again to go on.")
        return 130


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build.py", description="Build, test and show FateZero for Blender's Video Sequencer.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, passes_on: bool = False) -> argparse.ArgumentParser:
        result = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        result.set_defaults(run=run, passes_on=passes_on)
        return result

    def needs_engine(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--cpu", action="store_true", help="PyTorch's CPU build (remembered until `clean`)")

    def needs_host(parser: argparse.ArgumentParser) -> None:
        host = parser.add_mutually_exclusive_group()
        host.add_argument("--bpy", metavar="VERSION", help="the bpy package of another Blender, as 4.2.23")
        host.add_argument("--blender", metavar="PATH", help="an installed Blender instead of the bpy package")

    demo = command("demo", run_demo, "Edit a rendered clip from strip to strip; writes output/demo.", passes_on=True)
    needs_engine(demo)
    needs_host(demo)
    test = command("test", run_tests, "Run the tests; other arguments go to pytest.", passes_on=True)
    needs_engine(test)
    needs_host(test)
    test.add_argument("--host-only", action="store_true", help="only the tests that run inside Blender")
    verify = command("verify", run_verify, "Replay a reference case: CASE --checkpoint DIR [--json].", passes_on=True)
    needs_engine(verify)
    world = command("world", run_world, "Render clips of the world with ground truth.", passes_on=True)
    needs_host(world)
    service = command("service", run_service, "Measure the service: kills, pings, memory, wire.", passes_on=True)
    needs_engine(service)
    quality = command(
        "quality", run_quality, "Measure edits against right answers; writes benchmarks/results.", passes_on=True
    )
    needs_engine(quality)
    needs_host(quality)
    needs_host(command("extension", run_extension, "Build and validate the extension's zips; writes output/extension."))
    needs_engine(command("protocol", run_protocol, "Write protocol/README.md, the reference of the protocol."))
    tour = command("tour", run_tour, "Show the add-on in Blender's window; writes docs/images/tour.", passes_on=True)
    needs_engine(tour)
    tour.add_argument("--blender", metavar="PATH", required=True, help="an installed Blender")
    command("lint", run_lint, "Check the code's style.")
    command("clean", run_clean, "Remove .build and output.")
    return parser


def run_demo(options: argparse.Namespace, extra: list[str]) -> int:
    engine = environments.engine(options.cpu)
    host = host_of(options)
    with tempfile.TemporaryDirectory(prefix="fatezero-demo-") as resources:
        # Read by Blender when it starts: the user's own settings and extensions stay out of it.
        os.environ["BLENDER_USER_RESOURCES"] = resources
        return host.run([ROOT / "benchmarks" / "demo.py", "--out", OUTPUT / "demo", *extra], engine)


def run_verify(options: argparse.Namespace, extra: list[str]) -> int:
    return subprocess.run([environments.engine(options.cpu), "-m", "engine", "verify", *extra]).returncode


def run_service(options: argparse.Namespace, extra: list[str]) -> int:
    return subprocess.run([environments.engine(options.cpu), "-m", "benchmarks.service", *extra], cwd=ROOT).returncode


def run_protocol(options: argparse.Namespace, extra: list[str]) -> int:
    return subprocess.run(
        [environments.engine(options.cpu), "-m", "buildtools.protocol_reference"], cwd=ROOT
    ).returncode


def run_world(options: argparse.Namespace, extra: list[str]) -> int:
    return host_of(options).run(["-m", "benchmarks.world", *extra])


def run_quality(options: argparse.Namespace, extra: list[str]) -> int:
    engine = environments.engine(options.cpu)
    asked = [engine, "-m", "benchmarks.quality", *extra]
    # The engine's Python knows the benchmark's options; Blender's renders the clips that they need.
    needed = subprocess.run([*asked, "--clips"], cwd=ROOT, capture_output=True, text=True)
    if needed.returncode or not needed.stdout.startswith("--"):  # help, or a word that it does not know
        sys.stderr.write(needed.stderr)
        sys.stdout.write(needed.stdout)
        return needed.returncode
    os.chdir(ROOT)
    rendered = host_of(options).run(["-m", "benchmarks.quality.render", *needed.stdout.splitlines()])
    return rendered or subprocess.run(asked, cwd=ROOT).returncode


def run_extension(options: argparse.Namespace, extra: list[str]) -> int:
    host = host_of(options)
    for path in extension.build(host.extension, environments.tools(), OUTPUT / "extension"):
        print(path)
    return 0


def run_tour(options: argparse.Namespace, extra: list[str]) -> int:
    """Runs a user's Blender, with settings of its own, in the window of the screen that DISPLAY names."""
    clip = OUTPUT / "demo" / "source"
    if not clip.is_dir():
        raise Stop("The tour edits the demo's clip: run `python build.py demo` first.")
    if not shutil.which("import"):
        raise Stop("The tour takes its pictures with ImageMagick's `import`: install ImageMagick and run it again.")
    engine = environments.engine(options.cpu)
    blender = shutil.which(options.blender) or options.blender
    host = installed_blender(blender)
    zips = extension.build(host.extension, environments.tools(), OUTPUT / "extension")
    with tempfile.TemporaryDirectory(prefix="fatezero-tour-") as folder:
        os.environ |= {
            "BLENDER_USER_RESOURCES": folder,
            "FATEZERO_ENGINE_PYTHON": str(engine),
            "FATEZERO_TOUR_CLIP": str(clip),
            "FATEZERO_TOUR_ZIP": str(extension.for_this_platform(zips)),
            "FATEZERO_TOUR_OUT": str(ROOT / "docs" / "images" / "tour"),
            "FATEZERO_TOUR_WORK": folder,
        }
        script = ROOT / "benchmarks" / "tour.py"
        return subprocess.run([blender, "--enable-event-simulate", *extra, "--python", script]).returncode


def host_of(options: argparse.Namespace) -> Host:
    return installed_blender(options.blender) if options.blender else bpy_package(options.bpy)


@dataclass(frozen=True)
class Suite:
    """Tests that run in one environment: `paths` and the command that takes pytest's arguments."""

    name: str
    paths: list[str]
    run: object


def run_tests(options: argparse.Namespace, extra: list[str]) -> int:
    engine = environments.engine(options.cpu)
    host = host_of(options)
    variables = {"FATEZERO_ENGINE_PYTHON": engine, "FATEZERO_BBB": big_buck_bunny(engine), "PYTHONPATH": ROOT}
    os.environ.update({name: str(path) for name, path in variables.items()})
    os.chdir(ROOT)

    def in_engine(arguments: list[str]) -> int:
        return subprocess.run([engine, "-m", "pytest", *arguments]).returncode

    def in_host(arguments: list[str]) -> int:
        return host.run(["-m", "pytest", *arguments], engine)

    chosen = [argument for argument in extra if in_tests(argument)]
    pytest_options = [argument for argument in extra if argument not in chosen]
    suites = [] if options.host_only else [Suite("engine", tests_among(ENGINE_TESTS, chosen), in_engine)]
    suites.append(Suite(host.name, tests_among(HOST_TESTS, chosen), in_host))

    results = []
    for suite in suites:
        if not suite.paths:
            continue
        ignored = [f"--ignore={path}" for path in HOST_TESTS if suite.name == "engine"]
        say(f"\nTests in {suite.name}: {' '.join(suite.paths)}")
        start = time.monotonic()
        code = suite.run([*suite.paths, *ignored, *pytest_options])
        # A filter such as -k may leave one of the environments without a test.
        passed = code == 0 or (code == PYTEST_NO_TESTS and bool(extra))
        results.append((suite.name, passed, code, time.monotonic() - start))
    if not results:
        raise Stop(f"No such test here: {' '.join(chosen) or 'tests/ is empty'}.")

    sys.stdout.write("\n")
    for name, passed, code, seconds in results:
        print(f"{name}: {'passed' if passed else f'FAILED (exit code {code})'}, {seconds:.0f} s")
    return 0 if all(passed for _, passed, _, _ in results) else 1


def in_tests(argument: str) -> bool:
    """Whether one of pytest's arguments names a test file or folder: `-k engine` does not, though engine/ is a folder."""
    path = Path(os.path.abspath(argument.split("::")[0]))
    return path.is_relative_to(ROOT / "tests") and path.exists()


def tests_among(folders: tuple[str, ...], chosen: list[str]) -> list[str]:
    """Those of `folders` (ENGINE_TESTS or HOST_TESTS) that exist, or what belongs to them of the `chosen` paths."""
    present = [folder for folder in folders if (ROOT / folder).exists()]
    if not chosen:
        return present
    result = []
    for path in chosen:
        place = Path(os.path.abspath(path.split("::")[0])).relative_to(ROOT)
        in_host = any(place.is_relative_to(folder) for folder in HOST_TESTS)
        if in_host == (folders is HOST_TESTS):
            result.append(path)
        elif folders is HOST_TESTS:
            result += [folder for folder in present if Path(folder).is_relative_to(place)]
    return result


def run_lint(options: argparse.Namespace, extra: list[str]) -> int:
    python = environments.tools()
    ruff = [python, "-m", "ruff"]
    checked = subprocess.run([*ruff, "check", "."], cwd=ROOT).returncode
    formatted = subprocess.run([*ruff, "format", "--check", "."], cwd=ROOT).returncode
    if checked or formatted:
        shown = python.relative_to(ROOT)
        say(f"build.py: `{shown} -m ruff check --fix .` and `{shown} -m ruff format .` mend most of this.")
        return 1
    return 0


def run_clean(options: argparse.Namespace, extra: list[str]) -> int:
    for folder in (BUILD, OUTPUT):
        if folder.exists():
            size = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
            shutil.rmtree(folder)
            print(f"removed {folder.name} ({megabytes(size)})")
        else:
            print(f"{folder.name} is not there")
    return 0
