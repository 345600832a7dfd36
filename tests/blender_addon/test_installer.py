"""Install Engine makes an environment of its own with real venv and pip, from a wheel that stands for the engine."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import bpy
import pytest

from tests.blender_addon.conftest import wait_until

DIST = "fatezero_vse_engine-0.0.1"


@pytest.fixture
def extension(tmp_path) -> Path:
    """An installed extension's folder: a wheel and the requirements, which are none."""
    (tmp_path / "wheels-engine").mkdir()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "engine.txt").write_text("# nothing to download\n")
    with zipfile.ZipFile(tmp_path / "wheels-engine" / f"{DIST}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("engine/__init__.py", "")
        wheel.writestr("engine/__main__.py", "print('I am the engine')\n")
        wheel.writestr(
            f"{DIST}.dist-info/METADATA", "Metadata-Version: 2.1\nName: fatezero-vse-engine\nVersion: 0.0.1\n"
        )
        wheel.writestr(f"{DIST}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{DIST}.dist-info/RECORD", "")
    return tmp_path


def run(addon, extension: Path, target: Path):
    installing = addon.installer.start(extension, target)
    wait_until(lambda: not installing.running)
    return installing


def test_it_installs_and_installs_anew(addon, extension, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")  # nothing but what is installed
    target = tmp_path / "user {files}" / "engine"
    for _ in range(2):
        installing = run(addon, extension, target)
        assert installing.trouble is None, installing.log.read_text()
        assert installing.fraction == 1.0
        python = addon.engine_process.venv_python(target)
        answer = subprocess.run([python, "-m", "engine"], capture_output=True, text=True, cwd=tmp_path)
        assert answer.stdout == "I am the engine\n"
        assert [path.name for path in target.parent.iterdir() if path.is_dir()] == ["engine"]


def test_what_pip_says_is_said(addon, extension, tmp_path):
    (extension / "requirements" / "engine.txt").write_text("./gone.whl\n")
    target = tmp_path / "user" / "engine"
    installing = run(addon, extension, target)
    words = str(installing.trouble)
    assert words.startswith("Installing the engine failed (") and "gone.whl" in words
    assert words.endswith(f"Check the network and try again; {installing.log} says more.")
    assert [path for path in target.parent.iterdir() if path.is_dir()] == []


def test_an_addon_without_an_engine(addon, tmp_path):
    installing = run(addon, tmp_path, tmp_path / "engine")
    assert str(installing.trouble).startswith("This copy of the add-on has no engine in it.")


def test_stopping_it_leaves_nothing(addon, extension, tmp_path):
    target = tmp_path / "user" / "engine"
    installing = addon.installer.start(extension, target)
    wait_until(lambda: (target.parent / "engine.part").exists())
    installing.stop()
    assert not installing.running
    assert [path for path in target.parent.iterdir() if path.is_dir()] == []


def test_without_online_access_nothing_is_downloaded(addon, project):
    assert not bpy.app.online_access
    before = addon.installer.current
    with pytest.raises(RuntimeError, match="Turn on Allow Online Access in the preferences"):
        bpy.ops.fatezero.install_engine()
    assert addon.installer.current is before


def test_with_online_access_the_extensions_own_engine_is_installed(addon, project, no_engine):
    bpy.context.preferences.system.use_online_access = True
    try:
        assert bpy.ops.fatezero.install_engine() == {"FINISHED"}
    finally:
        bpy.context.preferences.system.use_online_access = False
    wait_until(lambda: not addon.installer.current.running)
    # build.py puts the engine's wheel into the zip; a staged copy of the sources has none
    assert str(addon.installer.current.trouble).startswith("This copy of the add-on has no engine in it.")
