"""The extension's zips, built for real with the extension tool of a `bpy` package that is set up here."""

import io
import os
import platform
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from buildtools import environments, extension
from buildtools.console import Stop

ROOT = Path(__file__).resolve().parents[2]

# How the names of the wheels of a platform begin and end after their Python's.
PLATFORMS = {
    "linux_x64": ("manylinux", ("_x86_64.whl",)),
    "macos_arm64": ("macosx", ("_arm64.whl", "_universal2.whl")),
    "macos_x64": ("macosx", ("_x86_64.whl", "_universal2.whl")),
    "windows_x64": ("win", ("_amd64.whl",)),
}


@pytest.fixture(scope="module")
def tool():
    """The extension tool is one script of the standard library, so any Python runs that of any Blender."""
    found = sorted(environments.BUILD.glob("host-*/**/bl_pkg/cli/blender_ext.py"))
    if not found:
        pytest.skip("no bpy package is set up: `build.py extension` sets one up")
    return [sys.executable, found[0]]


@pytest.fixture(scope="module")
def zips(tool, tmp_path_factory):
    output = tmp_path_factory.mktemp("extension")
    (output / "fatezero_vse-0.0.0-linux_x64.zip").touch()
    paths = extension.build(tool, environments.tools(), output)
    assert sorted(output.iterdir()) == paths, "zips of another version were left"
    return {path.stem.split("-")[-1]: zipfile.ZipFile(path) for path in paths}


def manifest_of(archive):
    return tomllib.loads(archive.read("blender_manifest.toml").decode())


def test_one_zip_per_platform(zips):
    assert sorted(zips) == sorted(PLATFORMS)


@pytest.mark.parametrize("name", PLATFORMS)
def test_zip_has_wheels_for_every_python_of_blender(zips, name):
    archive = zips[name]
    shipped = {name for name in archive.namelist() if name.startswith("wheels/")}
    # Blender reads the list that its tool narrowed to the platform.
    listed = manifest_of(archive)["build"]["generated"]["wheels"]
    assert {wheel.removeprefix("./") for wheel in listed} == shipped
    assert set(manifest_of(archive)["build"]["generated"]["platforms"]) == {name.replace("_", "-")}
    begin, ends = PLATFORMS[name]
    assert all(wheel.split("-")[-1].startswith(begin) and wheel.endswith(ends) for wheel in shipped)
    names = [wheel.removeprefix("wheels/").split("-") for wheel in shipped]
    msgspec = {(python, abi) for package, _, python, abi, _ in names if package == "msgspec"}
    assert msgspec == {("cp311", "cp311"), ("cp313", "cp313"), ("cp314", "cp314")}
    # pyzmq has one wheel of the stable ABI for 3.12 and everything later.
    pyzmq = {(python, abi) for package, _, python, abi, _ in names if package == "pyzmq"}
    assert pyzmq == {("cp311", "cp311"), ("cp312", "abi3")}


@pytest.mark.parametrize("name", PLATFORMS)
def test_zip_has_addon_protocol_and_engine(zips, name):
    names = set(zips[name].namelist())
    for folder, prefix in (("blender_addon", ""), ("protocol", "protocol/")):
        for path in (ROOT / folder).rglob("*.py"):
            assert prefix + path.relative_to(ROOT / folder).as_posix() in names
    assert "LICENSE" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert "protocol/README.md" not in names
    requirements = zips[name].read("requirements/engine.txt")
    assert requirements == (ROOT / "requirements" / "engine.txt").read_bytes()


def test_engine_wheel_is_whole(zips):
    archive = zips["linux_x64"]
    (name,) = (name for name in archive.namelist() if name.startswith("wheels-engine/"))
    wheel = zipfile.ZipFile(io.BytesIO(archive.read(name)))
    inside = set(wheel.namelist())
    for folder in ("engine", "protocol"):
        for path in (ROOT / folder).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in inside
    # The built-in model, and what single files need, are the wheel's package data.
    for folder in ("builtin", "families"):
        for path in (ROOT / "engine" / "models" / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT).as_posix() in inside
    assert {name.split("/")[0] for name in inside} == {"engine", "protocol", name_of_metadata(inside)}
    metadata = wheel.read(f"{name_of_metadata(inside)}/METADATA").decode()
    assert "\nName: fatezero-vse-engine\n" in metadata
    # One release: the add-on asks the engine for its own version.
    assert f"\nVersion: {manifest_of(archive)['version']}\n" in metadata


def name_of_metadata(names):
    return next(name.split("/")[0] for name in names if ".dist-info/" in name)


INSTALL = """
import os
import sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(filepath=sys.argv[1], repo="user_default", enable_on_install=True)
assert "bl_ext.user_default.fatezero_vse" in bpy.context.preferences.addons, "it is not enabled"
assert hasattr(bpy.types, "FATEZERO_OT_edit_strip")
sys.stdout.flush()
os._exit(0)  # 4.2 as a module crashes at its end where an add-on's property has had a callback
"""


def this_platform():
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}[sys.platform]
    return f"{system}_{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'x64'}"


def test_zip_installs_in_every_blender_that_is_set_up(zips, tmp_path):
    """As a user installs it: Blender unpacks the wheels for its own Python and enables the add-on."""
    for record in sorted(environments.BUILD.glob("host-*.json")):
        python = environments.interpreter(environments.BUILD / record.stem)
        if not environments.read_record(record.stem)["ready"]:
            continue
        user = tmp_path / record.stem
        result = subprocess.run(
            [python, "-c", INSTALL, zips[this_platform()].filename],
            env=os.environ | {"BLENDER_USER_RESOURCES": str(user)},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, f"{record.stem}: {result.stdout}{result.stderr}"
        unpacked = {path.name for path in user.glob("extensions/.local/**/site-packages/*") if path.is_dir()}
        assert {"zmq", "msgspec"} <= unpacked, f"{record.stem} unpacked {unpacked}"


def test_manifest_is_filled_before_its_tables():
    text = 'id = "x"\nwheels = [\n  "./wheels/old.whl",\n]\n\n[permissions]\nfiles = "why"\n'
    filled = tomllib.loads(extension.with_wheels(text, [Path("a/new.whl")]))
    assert filled["wheels"] == ["./wheels/new.whl"]
    assert filled["platforms"] == list(extension.PLATFORMS)
    assert filled["permissions"] == {"files": "why"}


def test_refusal_of_the_tool_is_one_sentence(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "BUILD", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Stop, match=r"refused to build the extension \(.+\); its log is .*log"):
        extension.run_tool(tool, tmp_path / "log", ["build", "--source-dir", empty, "--output-dir", tmp_path])


def test_wheels_are_fetched_once(zips, monkeypatch):
    monkeypatch.setattr(extension, "run_pip", lambda *arguments: pytest.fail("the wheels were fetched again"))
    assert len(extension.download_wheels(Path(sys.executable))) >= 18
