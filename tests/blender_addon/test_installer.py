"""Install Engine makes an environment of its own with real venv and pip, from a wheel that stands for the engine."""

from __future__ import annotations

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import bpy
import pytest

from tests.blender_addon.conftest import processes_with, wait_until

DIST = "fatezero_vse_engine-0.0.1"


@pytest.fixture
def extension(tmp_path) -> Path:
    """An installed extension's folder: a wheel and the requirements, which are none."""
    (tmp_path / "wheels-engine").mkdir()
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "engine.txt").write_text("# nothing to download\n")
    write_wheel(tmp_path, "I am the engine")
    return tmp_path


def write_wheel(extension: Path, says: str) -> None:
    with zipfile.ZipFile(extension / "wheels-engine" / f"{DIST}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("engine/__init__.py", "")
        wheel.writestr("engine/__main__.py", f"print('{says}')\n")
        wheel.writestr(
            f"{DIST}.dist-info/METADATA", "Metadata-Version: 2.1\nName: fatezero-vse-engine\nVersion: 0.0.1\n"
        )
        wheel.writestr(f"{DIST}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{DIST}.dist-info/RECORD", "")


def run(addon, extension: Path, target: Path, python: Path | None = None):
    addon.installed.carried.cache_clear()  # an extension that changes is loaded anew
    installing = addon.installer.start(extension, target, "CPU", python)
    wait_until(lambda: not installing.running)
    return installing


def said_by(addon, target: Path) -> str:
    python = addon.engine_process.venv_python(target)
    return subprocess.run([python, "-m", "engine"], capture_output=True, text=True, cwd=target).stdout.strip()


def folders_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.is_dir())


def test_it_installs_updates_and_is_removed(addon, extension, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")  # nothing but what is installed
    target, installed = tmp_path / "user {files}" / "engine", addon.installed
    assert installed.outdated(extension, target) == "" and installed.read(target) is None
    installing = run(addon, extension, target)
    assert installing.trouble is None, installing.log.read_text()
    assert installing.fraction == 1.0
    assert said_by(addon, target) == "I am the engine"
    assert folders_beside(target) == ["engine"]
    note = installed.read(target)
    assert (note.version, note.parts.device) == ("0.0.1", "CPU")
    assert note.size == installed.size(target) > 1e6
    assert installed.outdated(extension, target) == ""

    made = (target / "pyvenv.cfg").stat().st_ino
    write_wheel(extension, "I am newer")
    installed.carried.cache_clear()
    assert installed.outdated(extension, target) == "engine"
    installing = run(addon, extension, target)
    assert installing.trouble is None, installing.log.read_text()
    assert said_by(addon, target) == "I am newer"
    assert (target / "pyvenv.cfg").stat().st_ino == made  # only the engine was exchanged
    assert installed.outdated(extension, target) == ""

    (extension / "requirements" / "engine.txt").write_text("# others\n")
    installed.carried.cache_clear()
    assert installed.outdated(extension, target) == "all"
    assert run(addon, extension, target).trouble is None
    assert (target / "pyvenv.cfg").stat().st_ino != made
    installed.remove(target)
    assert folders_beside(target) == [] and installed.read(target) is None


def test_what_pip_says_is_said(addon, extension, tmp_path):
    (extension / "requirements" / "engine.txt").write_text("./gone.whl\n")
    target = tmp_path / "user" / "engine"
    installing = run(addon, extension, target)
    words = str(installing.trouble)
    assert words.startswith("Installing the engine failed (") and "gone.whl" in words
    assert words.endswith(f"Check the network and try again; {installing.log} says more.")
    assert [name for name in folders_beside(target) if "downloads" not in name] == []


def test_an_addon_without_an_engine(addon, tmp_path):
    installing = run(addon, tmp_path, tmp_path / "engine")
    assert str(installing.trouble).startswith("This copy of the add-on has no engine in it.")


def test_cancelling_ends_every_process_and_keeps_downloads(addon, extension, tmp_path):
    target = tmp_path / "user" / "engine"
    addon.installer.downloads_of(target).mkdir(parents=True)
    (addon.installer.downloads_of(target) / "torch.whl").write_bytes(b"half of it")
    addon.installed.carried.cache_clear()
    installing = addon.installer.start(extension, target, "CPU")
    wait_until(lambda: list(target.parent.glob("engine.part-*/bin")))  # venv runs, and ensurepip below it
    installing.stop()
    assert not installing.running
    assert str(installing.trouble).startswith("Installing the engine was cancelled.")
    assert processes_with(str(target)) == []
    assert folders_beside(target) == ["engine.downloads"]
    assert run(addon, extension, target).trouble is None
    assert folders_beside(target) == ["engine"]


def test_a_disk_that_is_too_small_is_noticed_before(addon, extension, tmp_path, monkeypatch):
    (extension / "requirements" / "engine.txt").write_text("torch==2.13.0\n")
    monkeypatch.setitem(addon.installer.SIZES, "CPU", (1e6, 1e6))
    words = str(run(addon, extension, tmp_path / "user" / "engine").trouble)
    assert words.startswith("There is not enough room for the engine: 2000000.0 GB are needed in ")
    assert not (tmp_path / "user" / "engine").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the Python that cannot is a shell script")
def test_a_python_that_cannot_make_environments(addon, extension, tmp_path):
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho \"No module named 'ensurepip'\" >&2\nexit 1\n")  # as Debian's says
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    words = str(run(addon, extension, tmp_path / "user" / "engine", python).trouble)
    assert words.startswith(f"The Python {python} cannot make the engine's environment.")
    assert not addon.pythons.can_make_environments(tmp_path / "none")
    assert addon.pythons.can_make_environments(Path(sys.executable))
    assert addon.pythons.find(None) == Path(sys.executable)  # Blender's own comes first


def test_pips_words_become_progress(addon, tmp_path):
    """Lines of pip 25.2, in its own form; no installation is needed to read them."""
    installing = run(addon, tmp_path, tmp_path / "engine")
    assert not installing._note_progress("Collecting torch==2.13.0 (from -r engine.txt (line 3))\n")
    installing._note_progress("  Using cached torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (200.0 MB)\n")
    assert (installing.stage, installing.file) == ("Downloading {file}", "torch")
    before = installing.fraction
    installing._note_progress("Downloading https://example.org/av-18.1.0-cp311.whl (100.0 MB)\n")
    assert installing.file == "av" and installing._note_progress("Progress 100000000 of 100000000\n")
    assert 0.3 < before < installing.fraction < 0.5  # 200, then 300 of 500 MB
    installing._note_progress("Installing collected packages: torch, av\n")
    assert installing.stage == "Unpacking" and installing.fraction == 0.75


def test_another_blender_that_installs_is_not_disturbed(addon, extension, tmp_path):
    target = tmp_path / "user" / "engine"
    busy = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = target.with_name(f"engine.part-{busy.pid}")
    theirs.mkdir(parents=True)
    try:
        assert str(run(addon, extension, target).trouble).startswith("Another Blender is installing the engine.")
        assert theirs.exists()
    finally:
        busy.communicate()
    assert run(addon, extension, target).trouble is None  # it is gone, and so is what it has left
    assert folders_beside(target) == ["engine"]


def test_without_online_access_nothing_is_downloaded(addon, project):
    assert not bpy.app.online_access
    before = addon.installer.current
    with pytest.raises(RuntimeError, match="Turn on Allow Online Access in the preferences"):
        bpy.ops.fatezero.install_engine()
    assert addon.installer.current is before


def test_removing_says_what_it_frees(addon, project, no_engine, capfd):
    target = addon.folders.venv_folder()
    assert not bpy.ops.fatezero.remove_engine.poll()
    target.mkdir(parents=True)
    (target / "big").write_bytes(bytes(100_000_000))
    assert addon.operators.install._removable_gigabytes() == 0.1
    assert bpy.ops.fatezero.remove_engine() == {"FINISHED"}
    assert "0.1 GB are free again" in capfd.readouterr().out  # where Blender prints what operators report
    assert not target.exists()


def test_with_online_access_the_extensions_own_engine_is_installed(addon, project, no_engine):
    bpy.context.preferences.system.use_online_access = True
    try:
        assert bpy.ops.fatezero.install_engine() == {"FINISHED"}
    finally:
        bpy.context.preferences.system.use_online_access = False
    wait_until(lambda: not addon.installer.current.running)
    # build.py puts the engine's wheel into the zip; a staged copy of the sources has none
    assert str(addon.installer.current.trouble).startswith("This copy of the add-on has no engine in it.")
