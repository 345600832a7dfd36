"""Who may know whom: the rules of the tree's rooms, proved on the sources and in fresh processes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {"torch", "numpy", "diffusers", "transformers", "bpy"}


def modules_after(code: str) -> set[str]:
    """The top-level modules in a fresh process that has run `code`."""
    listing = code + "\nimport sys; print('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} has no sources"
    return found


def absolute_imports(path: Path) -> set[str]:
    """The top-level names that a source imports absolutely, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def relative_depths(path: Path, folder: Path) -> list[int]:
    """How far each relative import of a source climbs above `folder`; 0 or less stays inside."""
    depth = len(path.relative_to(folder).parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.level - depth for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_protocol_needs_only_pyzmq_and_msgspec():
    everything = (
        "import importlib, pkgutil, protocol\n"
        "for module in pkgutil.walk_packages(protocol.__path__, 'protocol.'): importlib.import_module(module.name)"
    )
    assert not modules_after(everything) & HEAVY
    allowed = sys.stdlib_module_names | {"zmq", "msgspec"}
    for path in sources("protocol"):
        assert absolute_imports(path) <= allowed, path
        assert all(above <= 0 for above in relative_depths(path, ROOT / "protocol")), path


def test_server_answers_without_torch():
    assert not modules_after("import engine.service.server") & {"torch", "diffusers", "transformers", "bpy", "ray"}


def test_one_module_speaks_ray():
    assert [path.name for path in sources("engine") if "ray" in absolute_imports(path)] == ["ray_bridge.py"]


def test_addon_knows_blender_and_protocol_only():
    # Blender's own modules and the wheels that the extension carries; NumPy does not come with every Blender.
    allowed = sys.stdlib_module_names | {"bpy", "bpy_extras", "mathutils", "gpu", "gpu_extras", "blf", "zmq", "msgspec"}
    for path in sources("blender_addon"):
        assert absolute_imports(path) <= allowed, path
        assert all(above <= 0 for above in relative_depths(path, ROOT / "blender_addon")), path


def test_addon_overrides_a_context_only_while_no_thread_of_ours_runs():
    """See `blender_addon/standing.py`: what does so is a function that its own module gives to `jobs.when_alone`."""
    users = 0
    for path in sources("blender_addon"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        waiting = [call for call in calls if ast.unparse(call.func) == "jobs.when_alone"]
        alone = {node.id for call in waiting for node in ast.walk(call) if isinstance(node, ast.Name)}
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            if any(isinstance(node, ast.Attribute) and node.attr == "temp_override" for node in ast.walk(function)):
                assert function.name in alone, f"{path}: {function.name}"
                users += 1
    assert users


def test_engine_never_knows_blender():
    for path in sources("engine"):
        assert not absolute_imports(path) & {"bpy", "blender_addon", "mathutils", "benchmarks", "buildtools"}, path


@pytest.mark.parametrize("path", sources("engine/fatezero"), ids=lambda path: path.name)
def test_method_is_tensors_only(path):
    """No files, sockets, threads or processes: what it may import of the standard library is named."""
    pure = {"__future__", "abc", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "math"}
    assert absolute_imports(path) <= pure | {"typing", "re", "torch", "diffusers", "numpy"}
    assert all(above <= 0 for above in relative_depths(path, ROOT / "engine" / "fatezero"))
    names = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert "open" not in names


def test_buildpy_needs_only_the_standard_library():
    for path in [ROOT / "build.py", *sources("buildtools")]:
        # inside_blender.py runs in Blender, and it too needs nothing but Python.
        allowed = sys.stdlib_module_names | {"buildtools"}
        if path.name == "protocol_reference.py":  # it runs in the engine's environment
            allowed |= {"protocol", "msgspec"}
        assert absolute_imports(path) <= allowed, path
