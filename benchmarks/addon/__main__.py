"""Draws the panels, the menus' entries and the preferences of a project with 500 strips and 20 jobs, and ticks.

Blender lays nothing out without a window, so the layouts are stand-ins that do nothing: what is measured is the
add-on's own work. Writes the medians and the slowest of each, in milliseconds, as JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from benchmarks.leaving import leave

from . import way

STRIPS, JOBS, TIMES = 500, 20, 200
LIMITS = {"panels": 2.0, "tick": 4.0}
"""Milliseconds that drawing all panels and an idle tick may take."""


class Layout:
    """Takes every call and every setting."""

    def __getattr__(self, _name: str) -> Callable[..., Layout]:
        return lambda *_, **__: self


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.addon", description=__doc__)
    parser.add_argument("--out", type=Path, help="a file for the figures as well")
    parser.add_argument("--way", type=Path, metavar="FILE.mp4", help="instead: the whole way of an edit (see way.py)")
    parser.add_argument("--frames", type=int, default=16, help="of that clip")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    # Enables the extension in a user folder of its own, as the tests do.
    from tests.blender_addon import conftest

    conftest.pytest_configure(SimpleNamespace(addinivalue_line=lambda *_: None))
    try:
        figures = _way(conftest, options) if options.way else measure(conftest)
    finally:
        conftest.shut_down()
    said = json.dumps(figures, indent=2)
    print(way.table(figures) if options.way else said)
    if options.out:
        options.out.write_text(said + "\n")


def _way(conftest, options: argparse.Namespace) -> dict:
    names = ("jobs", "job", "operators.edit", "compat", "export")
    modules = {name.partition(".")[0]: importlib.import_module(f"{conftest.MODULE}.{name}") for name in names}
    modules["operators"] = importlib.import_module(f"{conftest.MODULE}.operators")
    conftest.new_file()
    project = conftest.Project(conftest.RESOURCES / "project")
    addon = SimpleNamespace(**modules, bpy=conftest.bpy)
    try:
        return way.measure(addon, project, options.way.resolve(), options.frames, options.steps)
    finally:
        conftest.stop_engine(addon)


def measure(conftest) -> dict:
    addon = SimpleNamespace(
        **{name: importlib.import_module(f"{conftest.MODULE}.{name}") for name in ("jobs", "job", "panels", "strips", "menus", "preferences", "documents")}
    )  # fmt: skip
    conftest.new_file()
    project = conftest.Project(conftest.RESOURCES / "project")
    for number in range(STRIPS):
        project.effect("COLOR", f"strip {number}", 1 + number % 10, 1 + number // 10 * 20, 19 + number // 10 * 20)
    strip = project.strips[-1]
    project.select(strip)
    project.prompts("a red ball rolls over a wooden table", "a blue cube rolls over a wooden table", preset="shape")
    source = addon.strips.describe(project.scene, strip)
    settings = project.scene.fatezero.as_edit()
    document = addon.documents.current()
    for number in range(JOBS):
        job = addon.job.Job(f"job{number}", source, settings, document, "")
        job.state, job.at_engine, job.result = (
            ("queued", True, "") if number < JOBS // 2 else ("done", True, strip.name)
        )
        addon.jobs.session.jobs.append(job)
    try:
        return figures(addon, conftest.bpy, project)
    finally:
        addon.jobs.session.jobs.clear()
        addon.jobs.session.keep()


def figures(addon: SimpleNamespace, bpy, project) -> dict:
    context = SimpleNamespace(scene=project.scene, region=SimpleNamespace(width=300))
    drawer = SimpleNamespace(layout=Layout())

    def panels() -> None:
        for panel in addon.panels.CLASSES:
            if hasattr(panel, "draw") and (not hasattr(panel, "poll") or panel.poll(context)):
                panel.draw(drawer, context)

    def entries() -> None:
        for _, draw in addon.menus._ADDITIONS:
            draw(drawer, context)

    kind = addon.preferences.FATEZERO_AP_preferences
    preferences = bpy.context.preferences.addons[kind.bl_idname].preferences
    values = {name: getattr(preferences, name) for name in kind.__annotations__}
    window = SimpleNamespace(layout=Layout(), bl_rna=kind.bl_rna, **values)
    measured = {
        "panels": _timed(panels),
        "menu and status bar": _timed(entries),
        "preferences": _timed(lambda: kind.draw(window, context)),
        "tick": _timed(addon.jobs.tick),
    }
    return {
        "blender": bpy.app.version_string,
        "strips": STRIPS,
        "jobs": JOBS,
        "milliseconds": measured,
        "within limits": {name: measured[name]["median"] <= most for name, most in LIMITS.items()},
    }


def _timed(do: Callable[[], object]) -> dict[str, float]:
    seconds = []
    do()
    for _ in range(TIMES):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    return {"median": round(statistics.median(seconds) * 1e3, 3), "slowest": round(max(seconds) * 1e3, 3)}


if __name__ == "__main__":
    main()
    leave(0, sys.stdout)
