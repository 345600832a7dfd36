"""Masks jobs, the user's own masks and previews, on a real engine with a tiny checkpoint."""

from __future__ import annotations

import io
import os
import signal

import msgspec
import numpy as np
import pytest
from PIL import Image

from protocol import limits, packs
from protocol.errors import ProtocolError
from protocol.messages import SoftMask
from protocol.settings import EditSettings
from tests.service.harness import PATIENCE, finished, wait_until


def pixels(file) -> np.ndarray:
    return np.asarray(Image.open(file))


def soft_masks(status, fetched) -> list[dict[SoftMask, np.ndarray]]:
    """For each frame its masks."""
    count = len(status.soft_masks)
    return [
        dict(zip(status.soft_masks, map(pixels, map(io.BytesIO, packs.split(path.read_bytes(), count)))))
        for path in fetched.packs
    ]


def into_green(settings: EditSettings) -> EditSettings:
    return msgspec.structs.replace(settings, target="a green ball", word_weights={})


def inversion_steps(engine) -> dict[str, int]:
    """When each file of a cached inversion was written."""
    return {str(path): path.stat().st_mtime_ns for path in (engine.home / "cache").glob("inversions/*/*")}


def test_every_word_comes_back_as_a_soft_mask_of_each_frame_without_an_edit(connection, settings, clip, tmp_path):
    asked = msgspec.structs.replace(settings(mask_words=()), source="a red, red ball")
    connection.submit("survey", asked, clip(3, seed=2001), task="masks")
    status = finished(connection, "survey")
    assert (status.state, status.task, status.frames, status.masks) == ("done", "masks", [], {}), status.error
    assert {"read", "load", "encode", "invert", "write"} == status.timings.keys()
    assert [(seen.word, seen.tokens > 0, seen.cut) for seen in status.words] == [
        (word, True, False) for word in ("a", "red,", "red", "ball")
    ]
    assert [(mask.word, mask.kind, mask.index) for mask in status.soft_masks] == [
        ("a", "word", 0), ("red,", "word", 1), ("red", "word", 2), ("ball", "word", 3)
    ]  # fmt: skip
    fetched = connection.fetch("survey", tmp_path / "out")
    assert fetched.frames == [] and fetched.masks == {}
    for masks in soft_masks(status, fetched):
        for mask in masks.values():
            assert mask.dtype == np.uint8 and mask.shape[1] / mask.shape[0] == pytest.approx(48 / 32, rel=0.2)
            assert mask.max() > 200
    assert [known.task for known in connection.jobs() if known.job_id == "survey"] == ["masks"]


def test_an_edit_begins_with_the_inversion_of_the_masks_and_masks_with_that_of_an_edit(
    connection, settings, clip, shared_engine
):
    frames = clip(2, seed=2002)
    connection.submit("first-masks", settings(), frames, task="masks")
    assert finished(connection, "first-masks").state == "done"
    written = inversion_steps(shared_engine)
    connection.submit("then-edit", into_green(settings()), frames)
    status = finished(connection, "then-edit")
    assert status.state == "done" and "encode" not in status.timings
    connection.submit("then-masks", settings(), frames, task="masks")
    status = finished(connection, "then-masks")
    assert status.state == "done" and "encode" not in status.timings
    assert inversion_steps(shared_engine) == written, "no step of it was computed again"


def test_a_masks_job_is_paused_resumed_and_cancelled_as_an_edit_is(connection, settings, clip):
    asked = settings(steps=400)
    connection.submit("held", asked, clip(2, seed=2003), task="masks")
    wait_until(lambda: connection.status("held").stage == "invert" and connection.status("held").step > 1, "a step")
    connection.pause("held")
    paused = wait_until(lambda: (now := connection.status("held")).state == "paused" and now, "its pausing")
    assert paused.task == "masks"
    connection.resume("held")
    wait_until(lambda: connection.status("held").step > 1, "its going on")
    connection.cancel("held")
    assert wait_until(lambda: (now := connection.status("held")).final and now, "its end").state == "cancelled"
    assert connection.status("held").task == "masks"


def test_a_masks_job_goes_on_after_its_worker_was_killed(start_engine, settings, clip, tmp_path):
    engine = start_engine()
    frames, asked = clip(2, seed=2004), settings(steps=120)
    with engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        connection.submit("killed", asked, frames, task="masks")
        step = wait_until(lambda: (now := connection.status("killed")).stage == "invert" and now.step, "a step")
        wait_until(lambda: len(inversion_steps(engine)) > 2, "a kept step")
        os.kill(engine.workers()[-1], signal.SIGKILL)
        status = finished(connection, "killed")
        assert step and status.state == "done", status.error
        assert status.task == "masks" and "the edit went on" in status.notes[0]
        assert "encode" not in status.timings
        assert len(connection.fetch("killed", tmp_path / "out").packs) == 2


def test_an_edit_brings_the_mask_that_it_used(connection, settings, clip, tmp_path):
    asked = settings(blend_source=("ball",), blend_target=("ball",), blend_latents=True, steps=6, mask_words=("ball",))
    connection.submit("blended", asked, clip(2, seed=2005))
    status = finished(connection, "blended")
    assert status.soft_masks == [SoftMask(word="ball", kind="word", index=2), SoftMask(word="ball", kind="blend")]
    for masks in soft_masks(status, connection.fetch("blended", tmp_path / "out")):
        assert masks[status.soft_masks[1]].max() == 255


def test_a_plain_edit_has_words_and_no_packs(connection, settings, clip):
    connection.submit("plain", settings(mask_words=()), clip(2, seed=2006))
    status = finished(connection, "plain")
    assert [seen.word for seen in status.words] == ["a", "red", "ball"]
    assert status.soft_masks == status.packs == []


@pytest.fixture
def half(tmp_path):
    """A mask for each of two frames: white in the left half; of another size than the clip's frames."""
    paths = [tmp_path / "own-1.png", tmp_path / "own-2.png"]
    mask = np.zeros((64, 96), np.uint8)
    mask[:, :48] = 255
    for number, path in enumerate(paths):
        mask[0, 0] = number  # two files
        Image.fromarray(mask).save(path)
    return paths


def test_outside_the_users_own_mask_the_pixels_are_the_sources(connection, settings, clip, half, tmp_path):
    frames = clip(2, seed=2007)
    asked = settings(own_mask="limit", keep_background=True, mask_words=())
    sent = []
    connection.submit("own", asked, frames, own_masks=half, on_sent=lambda *now: sent.append(now))
    assert sent[-1] == (4, 4)
    status = finished(connection, "own")
    assert status.state == "done", status.error
    assert [mask.kind for mask in status.soft_masks] == ["blend"]
    fetched = connection.fetch("own", tmp_path / "out")
    for before, after in zip(frames, fetched.frames, strict=True):
        assert np.array_equal(pixels(before)[:, 25:], pixels(after)[:, 25:])
        assert (pixels(before)[:, :23] != pixels(after)[:, :23]).any(-1).mean() > 0.9
    for masks in soft_masks(status, fetched):
        (mask,) = masks.values()
        assert (mask[:, : mask.shape[1] // 2 - 1] > 250).all() and (mask[:, mask.shape[1] // 2 + 1 :] < 5).all()
    with pytest.raises(ProtocolError) as refused:
        connection.submit("own", asked, frames, own_masks=half[::-1])
    assert refused.value.code == "job-differs"


@pytest.mark.parametrize(("mode", "masks"), [("replace", 0), ("replace", 1), ("", 2)])
def test_one_mask_a_frame_or_none(connection, settings, clip, half, mode, masks):
    with pytest.raises(ProtocolError, match="Give one mask a frame") as refused:
        connection.submit("masks-missing", settings(own_mask=mode), clip(2), own_masks=half[:masks])
    assert refused.value.code == "bad-settings"


def test_a_damaged_mask_is_refused_by_its_number(connection, settings, clip, half):
    half[1].write_bytes(b"no picture")
    asked = settings(own_mask="replace", mask_words=())
    connection.submit("damaged-mask", asked, clip(2, seed=2008), own_masks=half)
    status = finished(connection, "damaged-mask")
    assert (status.state, status.error.code) == ("failed", "not-png")


def test_previews_come_to_who_asks_and_only_then(shared_engine, connection, settings, clip):
    frames = clip(12, 48, 32, seed=2009)
    with shared_engine.connect() as silent:
        silent.hello(timeout=PATIENCE)
        connection.submit("seen", settings(steps=30, mask_words=()), frames)
        seen = []

        def asked() -> bool:
            silent.status("seen")
            status = connection.status("seen", preview=True)
            seen.extend(connection.previews())
            return status.final

        wait_until(asked, "its end")
        assert silent.previews() == []
    assert seen, "at least the first step shows one"
    for message, pictures in seen:
        assert (message.job_id, message.steps) == ("seen", 30) and 1 <= message.step <= 30
        assert message.frames == [0, 2, 3, 5, 6, 8, 9, 11] and len(pictures) == limits.MAX_PREVIEW_FRAMES
        shapes = {pixels(io.BytesIO(picture)).shape for picture in pictures}
        ((height, width, channels),) = shapes
        assert channels == 3 and max(height, width) <= limits.MAX_PREVIEW_SIDE
        assert width / height == pytest.approx(48 / 32, rel=0.1)
    connection.submit("unseen", into_green(settings(steps=20, mask_words=())), frames)
    finished(connection, "unseen")
    assert connection.previews() == []


def test_an_engine_that_takes_masks_for_an_edit_is_told_from_one_that_does_not(connection, settings, clip, monkeypatch):
    """Such an engine passes over the field that it does not know, as another version's decoder does."""
    from protocol import messages

    def without_task(**fields):
        return msgspec.structs.replace(original(**fields), task="edit")

    original = messages.Submit
    monkeypatch.setattr(messages, "Submit", without_task)
    with pytest.raises(ProtocolError) as refused:
        connection.submit("old-engine", settings(), clip(1, seed=2010), task="masks")
    assert refused.value.code == "unknown-task"
    with pytest.raises(ProtocolError) as forgotten:
        connection.status("old-engine")
    assert forgotten.value.code == "no-such-job"
