"""Tunings as jobs, on a real engine with a tiny checkpoint: whole, disturbed, refused, and making room for others."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from engine.service import tunings
from engine.service.frames import StoredClip
from engine.service.pipes import Work
from engine.tuning.tune import TuneSettings, tune
from protocol import limits, messages, models
from protocol.errors import ProtocolError
from protocol.messages import JobStatus
from protocol.settings import apply_preset
from protocol.tuning import Tuning, for_tuning
from tests.service.harness import PATIENCE, REPOSITORY, finished, wait_until

RATE = 1e-3


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def submit(settings):
    def submit(connection, job_id, frames, name=None, steps=4, **changes) -> JobStatus:
        tuning = Tuning(name=name or job_id, steps=steps, rate=RATE)
        return connection.submit(job_id, for_tuning(settings(**changes)), frames, task="tune", tuning=tuning)

    return submit


def trains(connection, job_id: str, step: int = 1) -> JobStatus:
    """The status once that step is done, with the job still at it."""
    status = wait_until(
        lambda: (now := connection.status(job_id)).final or (now.stage == "tune" and now.step >= step and now),
        "training steps",
    )
    assert status is not True, connection.status(job_id)
    return status


def tuned_folders(engine) -> list[Path]:
    return sorted((engine.home / models.TUNED_FOLDER).glob("*"))


@pytest.fixture(scope="module")
def undisturbed(checkpoint, tmp_path_factory):
    """The files of what so many steps on that clip make, by the engine's own function."""

    def make(frames: list[Path], steps: int) -> dict[str, str]:
        torch.set_num_threads(1)
        out = tmp_path_factory.mktemp("tuned") / "out"
        tune(str(checkpoint), StoredClip(frames), TuneSettings("a red ball", steps=steps, rate=RATE), out, device="cpu")
        return digests(out)

    return make


def test_a_tuning_makes_a_model_that_edits_and_can_be_removed(
    connection, submit, settings, clip, shared_engine, undisturbed
):
    frames = clip(4, seed=3001)
    with shared_engine.connect() as other:
        other.hello(timeout=PATIENCE)
        status = submit(connection, "made", frames, name="jeep-1")
        assert (status.task, status.state in ("queued", "running")) == ("tune", True)
        status = finished(connection, "made")
        assert (status.state, status.task, status.model, status.frames) == ("done", "tune", "jeep-1", []), status.error
        assert {"read", "load", "tune"} == status.timings.keys()
        assert "jeep-1" in other.hello(timeout=PATIENCE).models
    (folder,) = [path for path in tuned_folders(shared_engine) if path.name.startswith("jeep-1-")]
    assert digests(folder) == undisturbed(frames, 4)
    assert not (shared_engine.home / "jobs" / "local" / "made").exists()
    assert b'"path":"tuned/jeep-1-' in (shared_engine.home / models.FILE_NAME).read_bytes()  # wherever the home is

    connection.submit("with-it", settings(model="jeep-1"), frames)
    assert finished(connection, "with-it").state == "done"
    connection.taken("made")
    assert submit(connection, "made", frames, name="jeep-1").model == "jeep-1"  # asked for again, it is found done
    with pytest.raises(ProtocolError, match="tuned on video already") as refused:
        submit(connection, "twice", frames, model="jeep-1")
    assert refused.value.code == "bad-settings"

    command = [sys.executable, "-m", "engine", "models", "remove", "jeep-1", "--home", str(shared_engine.home)]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert said.startswith("jeep-1 is forgotten, and its folder is removed:") and not folder.exists()
    assert "jeep-1" not in connection.hello(timeout=PATIENCE).models


def test_its_error_is_told_and_it_goes_on_after_a_pause(connection, submit, clip, shared_engine, undisturbed):
    frames = clip(3, seed=3002)
    submit(connection, "shown", frames, steps=20)
    status = trains(connection, "shown")
    assert status.steps == 20 and status.loss > 0 and 0 < status.fraction < 1
    connection.pause("shown")
    wait_until(lambda: connection.status("shown").state == "paused", "its pausing")
    (state,) = (shared_engine.home / "jobs" / "local" / "shown" / "model" / "tuning").glob("state-*")
    assert state.stat().st_size > 0
    connection.resume("shown")
    first = trains(connection, "shown").step
    assert first > 1, "it began again"
    assert finished(connection, "shown").state == "done"
    assert digests(
        next(path for path in tuned_folders(shared_engine) if path.name.startswith("shown-"))
    ) == undisturbed(frames, 20)


def test_a_preview_is_small_pictures_of_some_frames(connection, submit, clip):
    submit(connection, "tuning-seen", clip(3, seed=3003), steps=400)
    found = wait_until(lambda: (connection.status("tuning-seen", preview=True), connection.previews())[1], "a preview")
    preview, pictures = found[0]
    connection.cancel("tuning-seen")
    assert (preview.job_id, preview.steps, preview.frames) == ("tuning-seen", 400, [0, 1, 2])
    assert len(pictures) == 3
    for picture in pictures:
        image = Image.open(io.BytesIO(picture))
        assert max(image.size) <= limits.MAX_PREVIEW_SIDE and np.asarray(image).std() > 1
    assert finished(connection, "tuning-seen").state == "cancelled"


def test_killed_at_any_moment_it_ends_in_the_same_bits(start_engine, submit, clip, undisturbed):
    frames, steps = clip(2, seed=3004), 64
    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        submit(connection, "killed", frames, steps=steps)
        trains(connection, "killed", 52)
        os.kill(engine.workers()[-1], signal.SIGKILL)  # the worker alone
        wait_until(lambda: len(engine.workers()) == 2, "another worker")
        assert trains(connection, "killed").step > 50
    engine.end(signal.SIGKILL)  # and all of it
    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        assert trains(connection, "killed").step > 50
        status = finished(connection, "killed")
        assert (status.state, status.model) == ("done", "killed"), status.error
    assert digests(tuned_folders(engine)[0]) == undisturbed(frames, steps)
    assert engine.end(signal.SIGTERM) == 0


def test_what_is_complete_gets_its_name_though_the_engine_was_killed_before_it_had(start_engine, submit, clip):
    """The worker had written the last file, and not yet said so; what came to its end is not done again."""
    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        submit(connection, "early", clip(2, seed=3005), steps=3)
        assert finished(connection, "early").state == "done"
        (place,) = tuned_folders(engine)
        before = digests(place)
        submit(connection, "next", clip(2, seed=3006), steps=2000, name="next")
        trains(connection, "next")
        submit(connection, "held", clip(2, seed=3007), steps=2000, name="moved")
    engine.end(signal.SIGKILL)
    # The job that waits is given what the first one has made, as if it had come so far itself.
    held = engine.home / "jobs" / "local" / "held" / "model"
    held.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(place, held)
    (held / "tuning").mkdir()
    (held / "tuning" / "state-of-an-unfinished-removal").write_bytes(b"")
    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        connection.cancel("next")
        status = finished(connection, "held")
        assert (status.state, status.model) == ("done", "moved")
        (moved,) = [path for path in tuned_folders(engine) if path.name.startswith("moved-")]
        assert digests(moved) == before
    assert engine.end(signal.SIGTERM) == 0


def test_the_server_gives_the_name_again_after_any_end_and_drops_only_what_has_none(tmp_path, settings, monkeypatch):
    def work(job_id: str) -> Work:
        tuning = Tuning(name="jeep")
        return Work(job_id=job_id, settings=settings(), frames=["0" * 64], fps=24.0, task="tune", tuning=tuning)

    mine, other = work("mine"), work("other")
    for each in (mine, other):
        tunings.working_folder(tmp_path, each).mkdir(parents=True)
    (tunings.working_folder(tmp_path, mine) / "model_index.json").write_text("{}")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    for _ in range(2):
        assert tunings.register(tmp_path, mine) == ("jeep", [])
    folders = (tmp_path / models.TUNED_FOLDER).stat().st_ino, tmp_path.stat().st_ino
    assert [inode for inode in synced if inode in folders] == [*folders, *folders], "first its place, then its name"
    models.remove(tmp_path, "jeep")  # as if it had been killed before that was on disk
    assert tunings.register(tmp_path, mine) == ("jeep", [])
    place = tunings.folder_of(tmp_path, mine)
    assert models.resolve(tmp_path, "jeep").path == str(place) and (place / "model_index.json").is_file()
    assert tunings.register(tmp_path, other)[0] == "jeep-2"
    tunings.drop(tmp_path, *mine.key)
    assert place.is_dir(), "it is a model"
    models.remove(tmp_path, "jeep")
    tunings.drop(tmp_path, *mine.key)
    assert not place.exists() and tunings.folder_of(tmp_path, other).is_dir()


def test_a_name_that_is_taken_or_none_is_refused_before_any_upload(connection, submit, settings, clip, shared_engine):
    frames = clip(2, seed=3009)
    before = len(list((shared_engine.home / "blobs").rglob("*")))

    def refused(code: str, **how) -> str:
        with pytest.raises(ProtocolError) as caught:
            submit(connection, "refused", frames, **how)
        assert caught.value.code == code and caught.value.remedy or code == "bad-settings"
        return caught.value.sentence

    assert "Another model is called 'builtin'" in refused("name-taken", name="builtin")
    assert "Another model" in refused("name-taken", name=settings().model)
    assert "cannot be called '../x'" in refused("bad-name", name="../x")
    assert "cannot be called" in refused("bad-name", name="x" * 81)
    assert "between 1 and" in refused("bad-settings", name="x", steps=0)
    assert "knows no model" in refused("unknown-model", name="x", model="nothing")
    with pytest.raises(ProtocolError) as caught:
        connection.submit("refused", for_tuning(settings()), frames, task="tune")
    assert caught.value.code == "bad-settings"
    with pytest.raises(ProtocolError) as caught:
        connection.submit("refused", settings(), frames, tuning=Tuning(name="x"))
    assert caught.value.code == "bad-settings"
    assert len(list((shared_engine.home / "blobs").rglob("*"))) == before

    submit(connection, "promised", frames, name="promised", steps=2000)
    assert "Another model is called 'promised'" in refused("name-taken", name="promised")  # to one that is at work
    connection.cancel("promised")
    assert finished(connection, "promised").state == "cancelled"
    submit(connection, "second", frames, name="promised", steps=2)
    assert finished(connection, "second").model == "promised"


def test_a_name_that_another_model_got_meanwhile(connection, submit, clip, checkpoint, shared_engine):
    submit(connection, "slow", clip(2, seed=3010), name="wanted", steps=20)
    trains(connection, "slow")
    models.add(shared_engine.home, models.Model(str(checkpoint), vae=str(checkpoint)), "wanted")
    status = finished(connection, "slow")
    assert (status.state, status.model) == ("done", "wanted-2")
    assert status.notes == ["Another model got the name 'wanted' meanwhile: this one is 'wanted-2'."]


def test_a_cancelled_tuning_leaves_nothing(connection, submit, clip, shared_engine):
    before = tuned_folders(shared_engine)
    submit(connection, "gone", clip(2, seed=3011), steps=2000)
    trains(connection, "gone", 3)
    connection.cancel("gone")
    assert finished(connection, "gone").state == "cancelled"
    assert not (shared_engine.home / "jobs" / "local" / "gone").exists()
    assert tuned_folders(shared_engine) == before
    assert "gone" not in connection.hello(timeout=PATIENCE).models
    assert connection.retry("gone").state in ("queued", "running")
    connection.forget("gone")


def test_an_edit_does_not_wait_for_a_tuning_but_another_tuning_does(
    start_engine, submit, settings, clip, undisturbed, tmp_path
):
    engine = start_engine(tmp_path / "home", "--tuning-turn", "0.1")
    frames = clip(2, seed=3012)
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        submit(connection, "long", frames, steps=30)
        trains(connection, "long", 2)
        connection.submit("short", settings(), frames)
        seen = wait_until(lambda: (now := connection.status("long")).waits and now, "its making room")
        assert seen.state == "queued" and seen.waits.startswith("Other jobs go first")
        assert finished(connection, "short").state == "done"
        submit(connection, "other", frames, steps=2)
        assert trains(connection, "long").step > 2
        status = finished(connection, "long")
        assert (status.state, status.waits, status.notes) == ("done", "", [])
        assert finished(connection, "other").state == "done"
    assert len(engine.logged("tuning makes room")) == 1
    made = {path.name.partition("-")[0]: path for path in tuned_folders(engine)}
    assert digests(made["long"]) == undisturbed(frames, 30)
    assert engine.end(signal.SIGTERM) == 0


def test_tuned_models_have_a_quota_of_their_own(start_engine, submit, clip, tmp_path):
    engine = start_engine(tmp_path / "home", "--quota", "0.0001")
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        submit(connection, "fits", clip(2, seed=3015), steps=1)
        assert finished(connection, "fits").state == "done"
        with pytest.raises(ProtocolError, match="take all the room") as refused:
            submit(connection, "too-much", clip(2, seed=3016))
        assert refused.value.code == "store-full" and refused.value.remedy.startswith("Remove one of them")
        assert "fits" in connection.hello(timeout=PATIENCE).models
    assert engine.end(signal.SIGTERM) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_a_full_disk_is_said_and_the_tuning_can_be_tried_again(start_engine, submit, clip):
    import resource

    engine = start_engine()
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        submit(connection, "full", clip(2, seed=3017), steps=12)
        trains(connection, "full", 2)
        worker = engine.workers()[-1]
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        status = finished(connection, "full")
        assert (status.state, status.error.code) == ("failed", "disk-full")
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        connection.cancel("full")
        connection.retry("full")
        assert finished(connection, "full").model == "full"


def test_an_engine_from_before_there_were_tunings_says_so(connection, submit, clip, monkeypatch):
    """It cannot decode the task: its answer is made by its own types."""

    class Before(msgspec.Struct):
        task: typing.Literal["edit", "masks"] = "edit"

    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.msgpack.decode(msgspec.msgpack.encode({"task": "tune"}), type=Before)
    sentence = f"A message cannot be understood: {error.value}."

    def answer(*_, **__):
        raise ProtocolError("malformed", sentence)

    monkeypatch.setattr(connection, "_ask", answer)
    with pytest.raises(ProtocolError, match="too old to tune a model on a clip") as refused:
        submit(connection, "old", clip(1, seed=3018))
    assert refused.value.code == "unknown-task" and "Update" in refused.value.remedy


def test_nothing_but_the_prompt_and_the_model_counts():
    asked = apply_preset("shape", "a red ball", "a red cube", steps=7, guidance=3.0, model="x")
    assert for_tuning(asked) == for_tuning(apply_preset("style", "a red ball", "a drawing", model="x"))
    with contextlib.suppress(ValueError):
        assert messages.Task.__args__ == ("edit", "masks", "tune")
