"""Send to Farm: strips become job files beside the .blend, which the engine's command renders."""

import json
import subprocess
from types import SimpleNamespace

import bpy
import pytest

from tests.blender_addon.conftest import FRAMES, ROOT


def test_selected_strips_become_job_files_that_render(project, engine, engine_python, addon):
    for number, name in enumerate(("one", "two: a/b"), start=1):
        project.image_strip(name, channel=number, seed=number).select = True
    project.save()
    assert bpy.ops.fatezero.send_to_farm() == {"FINISHED"}
    jobs = sorted((project.folder / addon.farm.FOLDER).glob("*/JOB.json"))
    assert len(jobs) == 2
    for job in jobs:
        assert len(list((job.parent / "frames").iterdir())) == FRAMES
    settings = json.loads(jobs[0].read_bytes())["settings"]
    assert settings["steps"] == 3 and settings["source"] == project.scene.fatezero.source
    command = [engine_python, "-m", "engine", "render", jobs[0], "--device", "cpu"]
    command += ["--home", addon.folders.home_folder()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((jobs[0].parent / "result" / "frames").iterdir())) == FRAMES

    strip, before = project.strips["one"], set(project.strips.keys())
    strip.channel, strip.frame_start = 5, strip.frame_start + 7  # the editor goes on meanwhile
    left = addon.compat.left_handle(strip)
    placed = addon.farm.place_all(addon.documents.current())
    assert (placed.waiting, placed.troubles) == (1, [])
    (new,) = (project.strips[name] for name in placed.strips)
    assert new.name not in before and new.channel > 5 and addon.compat.left_handle(new) == left
    assert [element.filename for element in new.elements] == [f"{n:05}.png" for n in range(1, FRAMES + 1)]
    (version,) = addon.versions.of(new)
    assert version.origin.engine and version.source.name == "one" and len(version.origin.source_digest) == 64
    assert bpy.ops.fatezero.place_farm_results() == {"CANCELLED"}, "it is there already, the other is not rendered"
    (jobs[0].parent / "result" / "frames" / "00001.png").unlink()
    project.strips.remove(new)
    ((name, trouble),) = addon.farm.place_all(addon.documents.current()).troubles
    assert name == "one" and f"{FRAMES - 1} frames, and the strip had {FRAMES}" in str(trouble)


def test_the_panels_part_of_a_strip_is_sent(project, addon):
    project.image_strip("one").select = True
    work = project.scene.fatezero_work
    work.frames, work.first, work.last, work.percent = "RANGE", 11, 13, 50
    project.prompts()
    project.save()
    assert bpy.ops.fatezero.send_to_farm() == {"FINISHED"}
    (job,) = (project.folder / addon.farm.FOLDER).glob("*/JOB.json")
    frames = sorted((job.parent / "frames").iterdir())
    assert len(frames) == 3
    source = addon.farm._sent(job.parent).source
    assert (source.first, source.count, source.percent) == (11, 3, 50)


@pytest.fixture
def sending(project, engine, addon):
    """The operator as it is with a window, which there is none of here, with the first frame of a strip written."""
    project.image_strip("one").select = True
    project.save()
    of_blender = addon.operators.farm.FATEZERO_OT_send_to_farm
    timers = ["the operator's"]
    manager = SimpleNamespace(
        event_timer_remove=timers.remove, progress_update=lambda _: None, progress_end=lambda: None
    )
    operator = type("Operator", (), {name: vars(of_blender)[name] for name in ("modal", "cancel", "_leave")})()
    operator.context, operator.timers, operator.told = SimpleNamespace(window_manager=manager), timers, []
    operator.report = lambda _, words: operator.told.append(words)
    operator._timer, operator._sending = timers[0], addon.operators.farm.begin(bpy.context)
    assert operator.modal(operator.context, SimpleNamespace(type="TIMER")) == {"RUNNING_MODAL"}
    assert len(list((project.folder / addon.farm.FOLDER).glob("*/frames/*"))) == 1
    yield operator
    assert operator.timers == [] and list((project.folder / addon.farm.FOLDER).iterdir()) == []


def test_half_a_shot_does_not_stay_when_another_file_is_opened(sending):
    """Blender calls the operator's `cancel` then."""
    sending.cancel(sending.context)


def test_half_a_shot_does_not_stay_where_something_unforeseen_happens(sending, addon, monkeypatch):
    def render(*_):
        raise RuntimeError("a bolt from the blue")

    monkeypatch.setattr(addon.export, "render", render)
    assert sending.modal(sending.context, SimpleNamespace(type="TIMER")) == {"CANCELLED"}
    assert "a bolt from the blue" in sending.told[0]


def test_half_a_shot_does_not_stay_where_a_script_sends_it(project, engine, addon, monkeypatch):
    project.image_strip("one").select = True
    project.save()

    def write(*_):
        raise RuntimeError("a bolt from the blue")

    monkeypatch.setattr(addon.farm.farm_job, "write", write)
    with pytest.raises(RuntimeError, match="Something unexpected happened .*a bolt from the blue"):
        bpy.ops.fatezero.send_to_farm()
    assert list((project.folder / addon.farm.FOLDER).iterdir()) == []


def test_nothing_is_sent_where_something_is_wrong(project, engine, addon):
    strip = project.image_strip("one")
    strip.select = False
    assert bpy.ops.fatezero.send_to_farm.poll()
    with pytest.raises(RuntimeError, match="No strip is selected"):
        bpy.ops.fatezero.send_to_farm()
    strip.select, project.scene.fatezero.own_mask_mode = True, "REPLACE"
    with pytest.raises(RuntimeError, match="no masks of your own"):
        bpy.ops.fatezero.send_to_farm()
    assert not (project.folder / addon.farm.FOLDER).exists()
