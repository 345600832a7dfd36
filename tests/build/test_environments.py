"""An environment is set up once, goes on where it was interrupted, and fails in one sentence."""

import os
import shutil
import subprocess
import sys
import threading
import venv
from collections import namedtuple
from pathlib import Path

import pytest

from buildtools import environments
from buildtools.console import Stop

ROOT = Path(__file__).resolve().parents[2]
HERE = sys.version_info[:2]


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A `.build` folder of the test's own."""
    monkeypatch.setattr(environments, "BUILD", tmp_path / ".build")
    return tmp_path / ".build"


@pytest.fixture
def quick_venv(monkeypatch):
    """Virtual environments without pip, which is most of the time that one takes."""

    def make(folder, base):
        if not folder.exists():
            venv.create(folder, with_pip=False, symlinks=os.name != "nt")

    monkeypatch.setattr(environments, "make_venv", make)


def ensure(install, inputs=("a==1",), check="import json"):
    return environments.ensure("small", HERE, {"files": list(inputs)}, install, "nothing to download", 1, check)


def test_second_run_does_nothing_and_an_interrupted_one_goes_on(build, quick_venv, capsys):
    calls = []

    def interrupted(pip):
        calls.append("interrupted")
        (build / "small" / "half-done").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(interrupted)
    python = ensure(lambda pip: calls.append("first"))
    assert (build / "small" / "half-done").exists(), "the interrupted set-up was thrown away"
    capsys.readouterr()

    assert ensure(lambda pip: calls.append("second")) == python
    assert calls == ["interrupted", "first"]
    assert capsys.readouterr().err == ""

    ensure(lambda pip: calls.append("changed"), inputs=["a==2"])
    assert calls[-1] == "changed"
    assert not (build / "small" / "half-done").exists(), "packages of another set-up were kept"


def test_engine_runs_from_any_folder(build, quick_venv):
    python = ensure(lambda pip: environments.put_repository_on_path(environments.interpreter(build / "small")))
    found = subprocess.run(
        [python, "-c", "import engine; print(engine.__file__)"], cwd=build, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()) == ROOT / "engine" / "__init__.py"


def test_two_set_ups_wait_for_each_other(build, capsys):
    build.mkdir()
    lock = (
        f"import sys; from buildtools import environments as e; e.BUILD = __import__('pathlib').Path({str(build)!r})\n"
    )
    holds = lock + "with e.set_up_lock(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        threading.Timer(1, other.stdin.close).start()
        with environments.set_up_lock():
            assert other.wait() is not None
    assert capsys.readouterr().err == "Another build.py is setting up; waiting for it.\n"


def test_half_installed_package_is_installed_again(build):
    folder = build / "small"
    # The pip of this Python's installation serves: one of its own would take most of the test's time.
    venv.create(folder, system_site_packages=True, with_pip=False, symlinks=os.name != "nt")
    half = next(folder.glob("**/site-packages")) / "torch-2.13.0.dist-info"
    half.mkdir()
    (half / "METADATA").touch()
    environments.make_venv(folder, Path(sys.executable))
    assert not half.exists()
    assert environments.output_of([str(environments.interpreter(folder)), "-m", "pip", "--version"])


def test_comments_change_no_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "some.txt").write_text("# why\n\na==1\nb==2 ; python_version == '3.11'\n")
    assert environments.requirement_lines("some.txt") == ["a==1", "b==2 ; python_version == '3.11'"]


def test_engine_and_host_have_the_same_wire():
    engine = environments.requirement_lines("engine.txt")
    assert set(environments.requirement_lines("host.txt")) <= set(engine)
    assert all("==" in line for name in ("engine", "host", "bpy", "test", "fuzz", "dev") for line in requirements(name))


def requirements(name):
    return environments.requirement_lines(f"{name}.txt")


def test_cpu_choice_is_remembered(build, monkeypatch):
    """Without it, the next command would fetch gigabytes of CUDA in place of the CPU build."""
    asked = []
    monkeypatch.setattr(environments, "ensure", lambda name, version, inputs, *rest: asked.append(inputs["cpu"]))
    build.mkdir()
    environments.write_record("engine", {"key": "of another requirement", "ready": True, "cpu": True})
    environments.engine(cpu=False)
    assert asked == [True]


def test_no_disk_space(build, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5_000_000, 5_000_000))
    with pytest.raises(
        Stop, match=r"not enough disk space: this needs 2\.0 GB and .* has 5 MB free; make room and run"
    ):
        environments.ensure("small", HERE, {}, pytest.fail, "", 2_000_000_000, "")


def test_disk_that_fills_up_while_installing(tmp_path):
    output = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    assert str(environments.explain(output, "torch", tmp_path / "log")).startswith("The disk is full: make room for")


def test_missing_system_library_names_its_packages(build, tmp_path):
    """What `import bpy` raises on a Linux without a desktop."""
    message = "libXi.so.6: cannot open shared object file: No such file or directory"
    with pytest.raises(Stop, match=r"needs the system library libXi\.so\.6.*apt-get install libxi6 .* then this again"):
        environments.check_imports("small", Path(sys.executable), f"raise ImportError('{message}')")


def test_broken_environment_names_its_log(build):
    with pytest.raises(Stop, match=r"does not work \('import no_such_module' fails\): the reason is in .*small\.log"):
        environments.check_imports("small", Path(sys.executable), "import no_such_module")
    assert "ModuleNotFoundError" in environments.log_of("small").read_text()


@pytest.fixture
def copied_tree(tmp_path):
    """build.py and what it needs, in a folder of its own, so that its environments are none of ours."""
    shutil.copy(ROOT / "build.py", tmp_path)
    for folder in ("buildtools", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run_lint(tree: Path, **variables) -> subprocess.CompletedProcess:
    """`build.py lint` with a pip that knows no index but what `variables` say."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1", **variables}
    return subprocess.run(
        [sys.executable, "build.py", "lint"], cwd=tree, env=clean | pip, capture_output=True, text=True, timeout=500
    )


def assert_one_sentence(result: subprocess.CompletedProcess, log: Path) -> str:
    """The last line, after what was being done; it names the log, which is there."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    *doing, last = result.stderr.strip().splitlines()
    assert last.startswith("build.py: ") and not any(line.startswith("build.py: ") for line in doing)
    assert str(log) in last and log.read_text()
    return last


def test_no_network_then_a_package_that_is_nowhere(copied_tree):
    log = copied_tree / ".build" / "logs" / "tools.log"
    # Port 9 of this machine: nothing listens there.
    result = run_lint(copied_tree, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert "package index cannot be reached" in assert_one_sentence(result, log)
    result = run_lint(copied_tree, PIP_NO_INDEX="1")
    last = assert_one_sentence(result, log)
    assert f"Installing failed at {environments.requirement_lines('dev.txt')[0]}" in last
