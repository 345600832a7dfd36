"""The package goes into Blender as it is: it may need nothing but pyzmq and msgspec, under any parent package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "protocol"
FORBIDDEN = ("numpy", "torch", "bpy", "PIL", "engine", "blender_addon")


def modules_after(statement: str, folder: Path) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", program]
    return set(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split())


def imports_of_all(package: str) -> str:
    names = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    return "\n".join(f"import {package}.{name}" for name in names)


def test_it_loads_nothing_heavy():
    loaded = modules_after(imports_of_all("protocol"), PACKAGE.parent)
    assert loaded.isdisjoint(FORBIDDEN)


def test_it_works_inside_another_package(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "addon" / "words", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "addon" / "__init__.py").touch()
    loaded = modules_after(imports_of_all("addon.words"), tmp_path)
    assert "protocol" not in loaded
