"""The folder beside the .blend: found out about before any work, filled out of sight, shown whole."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.blender_addon.conftest import reach, refused


@contextmanager
def read_only(folder: Path):
    """Nothing can be made in the folder: by its mode, and for root, whom modes do not bind, by the file system."""
    if os.name == "nt":
        pytest.skip("Windows has no folders that their owner cannot write to")
    mode = stat.S_IMODE(folder.stat().st_mode)
    as_root = os.geteuid() == 0
    if as_root and subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("this file system does not hold root off")
    folder.chmod(0o555) if not as_root else None
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder], check=True) if as_root else folder.chmod(mode)


@pytest.fixture
def strip(project):
    strip = project.image_strip(count=2)
    project.select(strip)
    project.prompts()
    project.save()
    return strip


def test_a_read_only_folder_is_said_before_any_work(addon, project, engine, strip):
    with read_only(project.folder):
        words = refused()
    assert words.startswith(f"The result cannot be written to {project.folder / 'fatezero'}: ")
    assert words.endswith("or save the .blend elsewhere; then try again.")
    assert addon.jobs.session.jobs == []
    assert list(addon.folders.exports_folder().iterdir()) == []


def test_one_that_becomes_read_only_meanwhile(addon, project, engine, strip):
    project.prompts(steps=1)
    session = addon.jobs.session
    job = session.edit(addon.strips.describe(project.scene, strip), project.scene.fatezero.as_edit())
    with read_only(project.folder):
        reach(session, "unfetched")
    assert "cannot be written" in str(job.trouble)
    session.fetch_again(job)
    reach(session, "done")
    assert len(project.strips) == 2


def test_one_that_stays_read_only_until_the_project_is_saved_elsewhere(addon, project, engine, strip, tmp_path):
    project.prompts(steps=1)
    session = addon.jobs.session
    job = session.edit(addon.strips.describe(project.scene, strip), project.scene.fatezero.as_edit())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with read_only(project.folder):
        reach(session, "unfetched")
        project.save(elsewhere / "project.blend")
        session.fetch_again(job)
        reach(session, "done")
    assert job.folder.parent == elsewhere / "fatezero" and project.strips[job.result]


def test_a_trial_leaves_other_results_alone(addon, tmp_path):
    there = tmp_path / "fatezero" / "clip-1" / "frames"
    there.mkdir(parents=True)
    addon.landing.probe(tmp_path / "project.blend")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["clip-1", "fatezero", "frames"]


def test_it_is_shown_whole_and_once(addon, tmp_path):
    landing = addon.landing.Landing.beside(tmp_path / "project.blend", "A clip / ä.001")
    assert landing.folder.parent == tmp_path / "fatezero" and landing.folder.name.startswith("A-clip-ä.001-")
    (landing.open() / "frames").mkdir()
    (landing.open() / "frames" / "00001.png").write_bytes(b"1")  # a second session goes on with it
    assert not landing.folder.exists()
    assert landing.show() == landing.folder and not landing.unfinished.exists()
    assert landing.open() == landing.show() == landing.folder  # as after a crash before that was noted down
    assert (landing.folder / "frames" / "00001.png").read_bytes() == b"1"


@pytest.mark.parametrize("shown", [False, True])
def test_what_is_not_wanted_goes_without_a_trace(addon, tmp_path, shown):
    landing = addon.landing.Landing.beside(tmp_path / "project.blend", "clip")
    (landing.open() / "frames").mkdir()
    if shown:
        landing.show()
    landing.discard()
    landing.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_has_foreseen_leaves_a_job_that_can_be_fetched_again(addon, project, engine, strip, monkeypatch):
    project.prompts(steps=1)
    session = addon.jobs.session
    job = session.edit(addon.strips.describe(project.scene, strip), project.scene.fatezero.as_edit())

    def break_down(self):
        raise RuntimeError("a bolt from the blue")

    with monkeypatch.context() as patch:
        patch.setattr(addon.landing.Landing, "show", break_down)
        reach(session, "unfetched")
    assert "RuntimeError: a bolt from the blue" in str(job.trouble) and session.engine == "ready"
    session.fetch_again(job)
    reach(session, "done")
    assert len(project.strips) == 2
