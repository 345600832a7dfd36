"""Engines that are not there, do not come, go away or speak otherwise; disks that are full; a Blender that is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from tests.blender_addon.conftest import ROOT, processes_with, reach, refused, stage, wait_until


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
    return addon.jobs.home_folder() / "engine.log"


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
        monkeypatch.setattr(addon.client, "START_PATIENCE", 1.0)
        python(f"exec -a slow-{tmp_path.name} sleep 600")
        assert refused() == (
            f"The engine did not start within 1 seconds. Try again; {log_of(addon)} may say what holds it up."
        )
        assert processes_with(f"slow-{tmp_path.name}") == []

    def test_an_engine_that_is_stopped_while_it_starts(self, session, strip, python):
        python("exec sleep 600")
        bpy.ops.fatezero.start_engine()
        wait_until(lambda: session.client._process is not None)
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
        addon.operators.begin(bpy.context)

    def test_an_engine_that_dies_mid_job(self, addon, project, session, strip):
        self.begin(addon, project)
        reach(session, "running")
        os.kill(session.client._process.pid, signal.SIGKILL)
        reach(session, "failed")
        assert str(session.trouble) == (
            "The engine ended by itself (exit code -9). "
            f"Edit the strip again, which starts it anew; {log_of(addon)} may say why."
        )
        wait_until(lambda: processes_with(str(addon.jobs.home_folder())) == [])
        # and so it does; what the dead engine's journal holds does not come back
        self.begin(addon, project, steps=1)
        reach(session, "running")
        bpy.ops.fatezero.cancel()
        reach(session, "cancelled")

    def test_stopping_the_engine_ends_the_job(self, addon, project, session, strip):
        self.begin(addon, project)
        reach(session, "running")
        assert bpy.ops.fatezero.stop_engine() == {"FINISHED"}
        reach(session, "cancelled")
        wait_until(lambda: session.tick() and session.engine == "off" or session.engine == "off")
        assert processes_with(str(addon.jobs.home_folder())) == []

    def test_a_disk_that_is_full_while_exporting(self, addon, session, strip):
        with full_disk():
            words = refused()
        assert words.startswith(f"The frames cannot be written to {addon.jobs.exports_folder()}")
        assert words.endswith("Make room on that disk and edit the strip again.")
        assert session.job.state == "failed"

    def test_a_disk_that_is_full_while_the_result_is_written(self, addon, project, session, strip):
        self.begin(addon, project, steps=1)
        reach(session, "running", "fetching")
        with full_disk():
            reach(session, "failed")
        assert "the disk is full" in str(session.trouble)

    def test_a_result_folder_that_cannot_be_made(self, addon, project, session, strip):
        self.begin(addon, project, steps=1)
        (project.folder / "fatezero").write_text("in the way")
        reach(session, "failed")
        assert str(session.trouble).startswith(f"The result cannot be written to {project.folder / 'fatezero'}: ")
        (project.folder / "fatezero").unlink()

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
        session.job.cancel(session)

    def test_a_killed_blender_leaves_no_process(self, project, strip, checkpoint, tmp_path):
        resources = tmp_path / "resources"
        stage(resources)
        packages = os.pathsep.join(sys.path)  # an installed Blender has ours only where it was told
        script = [Path(__file__).with_name("killed_blender.py"), "--", packages, project.path, checkpoint]
        if bpy.app.binary_path:
            command = [bpy.app.binary_path, "--background", "--python", *script]
        else:
            command = [sys.executable, *script]
        environ = os.environ | {"BLENDER_USER_RESOURCES": str(resources)}
        blender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        with blender.stdout:
            assert any(line.startswith("RUNNING") for line in blender.stdout)
            assert len(processes_with(f"--home {resources}")) == 2  # the engine's server and its worker
            blender.send_signal(signal.SIGKILL)
        blender.wait()
        wait_until(lambda: processes_with(f"--home {resources}") == [])


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow over 100 bytes: for whoever writes, a disk that is full."""
    import resource

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
