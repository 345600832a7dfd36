"""Engines that are not there, do not come or speak otherwise; disks that are full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from tests.blender_addon.conftest import ROOT, full_disk, processes_with, refused, wait_until


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def strip(project):
    strip = project.image_strip(count=2)
    project.select(strip)
    project.save()
    return strip


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Have the add-on take a program of our own for the engine's Python."""

    def use(body: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("FATEZERO_ENGINE_PYTHON", str(path))
        return path

    return use


def log_of(addon) -> Path:
    return addon.folders.home_folder() / "engine.log"


@pytest.fixture(autouse=True)
def no_strip_no_files(project):
    yield
    assert not (project.folder / "fatezero").exists()
    assert len(project.strips) == 1


@pytest.mark.usefixtures("engine", "no_engine")
class TestStart:
    def test_a_python_that_is_not_there(self, strip, monkeypatch, tmp_path):
        monkeypatch.setenv("FATEZERO_ENGINE_PYTHON", str(tmp_path / "gone"))
        assert refused().startswith("The engine is not installed. Press Install Engine")

    def test_a_python_without_the_engine(self, addon, strip, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "")
        monkeypatch.setenv("FATEZERO_ENGINE_PYTHON", sys.executable)  # this one has Blender, and no engine
        assert refused() == (
            f"The engine ended while it started ({sys_executable_says()}). Install it again, or name another Python "
            f"in the add-on's preferences; {log_of(addon)} says more."
        )

    def test_a_file_that_is_no_program(self, strip, python):
        python("").chmod(0o644)
        assert refused() == (
            "The engine cannot be started: Permission denied. "
            "Check the engine's Python in the add-on's preferences, or install the engine again."
        )

    def test_an_engine_that_does_not_start_in_time(self, addon, strip, python, monkeypatch, tmp_path):
        monkeypatch.setattr(addon.link, "START_PATIENCE", 1.0)
        python(f"exec -a slow-{tmp_path.name} sleep 600")
        assert refused() == (
            f"The engine did not start within 1 seconds. Try again; {log_of(addon)} may say what holds it up."
        )
        assert processes_with(f"slow-{tmp_path.name}") == []

    def test_an_engine_that_is_stopped_while_it_starts(self, session, strip, python):
        python("exec sleep 600")
        bpy.ops.fatezero.start_engine()
        wait_until(lambda: session.client.link.process is not None)
        assert bpy.ops.fatezero.stop_engine() == {"FINISHED"}
        wait_until(lambda: session.tick() and session.engine == "off")
        assert session.trouble is None

    def test_an_engine_of_another_protocol_version(self, strip, monkeypatch, tmp_path):
        for package in ("engine", "protocol"):
            shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("builtin"))
        version = tmp_path / "other" / "protocol" / "__init__.py"
        version.write_text(version.read_text().replace("PROTOCOL_VERSION = 1", "PROTOCOL_VERSION = 99"))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
        words = refused()
        assert "99" in words and "version" in words
        assert words.count(".") >= 2  # and what to do


def sys_executable_says() -> str:
    engine = os.environ["FATEZERO_ENGINE_PYTHON"]
    answer = subprocess.run([engine, "-m", "engine"], cwd="/", capture_output=True, text=True)
    return answer.stderr.strip().splitlines()[-1]


@pytest.mark.usefixtures("engine")
class TestWork:
    def begin(self, addon, project, steps: int = 500) -> None:
        project.prompts(steps=steps)
        addon.operators.edit.begin(bpy.context)

    def test_a_disk_that_is_full_while_exporting(self, addon, session, strip):
        with full_disk():
            words = refused()
        assert words.startswith(f"The frames cannot be written to {addon.folders.exports_folder()}")
        assert words.endswith("Make room on that disk and edit the strip again.")
        assert session.job.state == "failed"

    def test_a_tick_does_nothing_while_blender_saves(self, addon, project, session, strip):
        self.begin(addon, project, steps=1)
        seen = []

        def look(*_):
            seen.append((session.tick(), session.job.state, session.job.step))

        bpy.app.handlers.save_pre.append(look)
        try:
            project.save()
        finally:
            bpy.app.handlers.save_pre.remove(look)
        assert seen == [(False, "exporting", 0)]
        session.cancel(session.job)
