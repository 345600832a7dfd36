"""build.py finds its Pythons, and says which one would do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from buildtools import pythons
from buildtools.console import Stop

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 13), (3, 12, 1), (3, 14, 0)])
def test_wrong_python_names_the_right_ones(version):
    pretend = (
        f"import runpy, sys; sys.version_info = {version}; sys.argv = ['build.py', 'demo']; "
        "runpy.run_path('build.py', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", pretend], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "needs Python 3.11" in result.stderr and "or 3.13" in result.stderr
    assert f"this is Python {version[0]}.{version[1]}" in result.stderr


def test_buildpy_has_no_syntax_that_an_old_python_cannot_read():
    tree = ast.parse((ROOT / "build.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.FunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, new)]


@pytest.mark.parametrize(
    ("blender", "python"), [("4.2.23", (3, 11)), ("5.0.1", (3, 11)), ("5.1.0", (3, 13)), ("5.2.3", (3, 13))]
)
def test_python_of_each_blender(blender, python):
    assert pythons.python_of_blender(blender) == python


def test_no_version_of_blender():
    with pytest.raises(Stop, match="'latest' is no version of Blender: write it like"):
        pythons.python_of_blender("latest")


def test_missing_python_is_named_with_the_way_out():
    with pytest.raises(Stop, match=r"The host-9\.9 environment needs Python 3\.99, .* install it"):
        pythons.require_python((3, 99), "The host-9.9 environment")


def test_own_python_is_found():
    assert pythons.find_python(sys.version_info[:2]) == Path(sys.executable)


def test_pyenv_is_searched_newest_first(tmp_path, monkeypatch):
    for patch in ("3.13.2", "3.13.10", "3.13.0rc1", "3.11.7"):
        (tmp_path / "versions" / patch).mkdir(parents=True)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    found = [path.relative_to(tmp_path / "versions").parts[0] for path in pythons.pyenv_pythons("3.13")]
    assert found == ["3.13.10", "3.13.2"]
