"""Jobs on a real engine with a tiny checkpoint: the whole way, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from protocol import limits, models
from protocol.errors import ProtocolError
from protocol.models import Model
from tests.service.harness import PATIENCE, finished, small_checkpoint, wait_until


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_what_is_left_of_a_transfer_and_longer_than_its_file_is_fetched_anew(connection, settings, clip, tmp_path):
    connection.submit("beyond", settings(), clip())
    status = finished(connection, "beyond")
    whole = [path.read_bytes() for path in connection.fetch("beyond", tmp_path / "whole").frames]
    left = tmp_path / "out" / "frames"
    left.mkdir(parents=True)
    for number, kept in ((1, whole[0][:10]), (2, whole[1] + b"more")):
        (left / f".{number:05}.png.{status.frames[number - 1][:16]}.part").write_bytes(kept)
    assert [path.read_bytes() for path in connection.fetch("beyond", tmp_path / "out").frames] == whole
    assert len(list(left.iterdir())) == len(whole), "and nothing stays"


def test_frames_go_there_and_come_back_edited(connection, settings, clip, tmp_path):
    frames = clip(3, 48, 32, seed=1001)  # whose inversion no other test has left in the cache
    sent, received = [], []
    status = connection.submit("trip", settings(), frames, on_sent=lambda *now: sent.append(now))
    assert status.state in ("queued", "running")
    assert sent == [(0, 3), (1, 3), (2, 3), (3, 3)]
    status = finished(connection, "trip")
    assert status.state == "done", status.error
    assert status.fraction == 1.0
    assert {"read", "load", "encode", "invert", "edit", "decode", "write"} <= status.timings.keys()
    assert all(seconds >= 0 for seconds in status.timings.values())
    fetched = connection.fetch("trip", tmp_path / "out", on_received=lambda *now: received.append(now))
    assert received[0] == (0, 9) and received[-1] == (9, 9)  # frames, masks and packs
    assert [path.name for path in fetched.frames] == ["00001.png", "00002.png", "00003.png"]
    for source, edited, mask in zip(frames, fetched.frames, fetched.masks["ball"], strict=True):
        assert pixels(edited).shape == (32, 48, 3)
        assert pixels(mask).shape == (32, 48)
        assert not np.array_equal(pixels(edited), pixels(source))
    times = [path.stat().st_mtime_ns for path in fetched.frames]
    again = connection.fetch("trip", tmp_path / "out")
    assert again == fetched
    assert [path.stat().st_mtime_ns for path in again.frames] == times


def test_events_tell_of_the_steps(connection, settings, clip):
    connection.events()
    connection.submit("events", settings(steps=3), clip(2, seed=1002))
    seen = []

    def ended():
        seen.extend(status for status in connection.events() if status.job_id == "events")
        return seen and seen[-1].final

    wait_until(ended, "the last event")
    assert seen[0].state == "queued"
    assert seen[-1].state == "done"
    assert not seen[-1].frames
    assert {(status.stage, status.step, status.steps) for status in seen} >= {("invert", 3, 3), ("edit", 3, 3)}
    fractions = [status.fraction for status in seen]
    assert fractions == sorted(fractions)
    assert any(status.seconds_left is not None for status in seen)


def test_a_checkpoint_that_was_changed_in_place_is_read_again(connection, settings, clip, shared_engine, tmp_path):
    frames, mine, other = clip(2), small_checkpoint(tmp_path / "mine"), tmp_path / "other"

    def edited(name: str, folder: Path, job_id: str) -> list[bytes]:
        models.add(shared_engine.home, Model(str(folder)), name)
        connection.submit(job_id, settings(model=name), frames)
        assert (status := finished(connection, job_id)).state == "done", status.error
        return [path.read_bytes() for path in connection.fetch(job_id, tmp_path / job_id).frames]

    before = edited("mine", mine, "before-change")
    path = mine / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: 1.1 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    after = edited("mine", mine, "after-change")
    shutil.copytree(mine, other)
    assert after == edited("other", other, "changed-elsewhere") != before


def test_submitting_again_finds_the_same_job(connection, settings, clip, tmp_path):
    frames = clip(2)
    for _ in range(3):
        connection.submit("again", settings(), frames)
    first = finished(connection, "again")
    sent = []
    assert connection.submit("again", settings(), frames, on_sent=lambda *now: sent.append(now)) == first
    assert not sent
    assert [status.job_id for status in connection.jobs()].count("again") == 1
    with pytest.raises(ProtocolError) as refused:
        connection.submit("again", settings(steps=3), frames)
    assert refused.value.code == "job-differs"


def test_frames_are_uploaded_once(connection, settings, clip):
    sent = []
    connection.submit("first", settings(), clip(3))
    connection.submit("longer", settings(), clip(4), on_sent=lambda *now: sent.append(now))
    assert sent == [(3, 4), (4, 4)], "only its last frame is new"
    for job_id in ("first", "longer"):
        connection.cancel(job_id)


def test_alpha_comes_back_as_it_was(connection, settings, clip, tmp_path):
    frames = clip(2, 40, 24, "RGBA")
    connection.submit("alpha", settings(), frames)
    assert finished(connection, "alpha").state == "done"
    for source, edited in zip(frames, connection.fetch("alpha", tmp_path / "out").frames, strict=True):
        assert np.array_equal(pixels(edited)[..., 3], pixels(source)[..., 3])


def test_cancelling_ends_a_job_at_its_next_step(connection, clip, start_endless):
    start_endless(connection, "stop")
    at = connection.cancel("stop")
    connection.events()
    status = finished(connection, "stop")
    assert status.state == "cancelled"
    assert connection.cancel("stop") == status
    later = [event for event in connection.events() if event.state == "running"]
    assert len(later) < 100, f"{len(later)} of 2000 steps after the cancelling at step {at.step}"


def test_what_is_about_to_be_cancelled_cannot_be_paused(connection, clip, start_endless):
    start_endless(connection, "called-off", clip(8))
    assert connection.cancel("called-off").state == "running"
    connection.pause("called-off")
    connection.resume("called-off")
    assert finished(connection, "called-off").state == "cancelled"


def test_a_waiting_job_is_cancelled_at_once(connection, settings, clip, start_endless):
    frames = clip(2)
    start_endless(connection, "before", frames)
    connection.submit("waiting", settings(), frames)
    assert connection.status("waiting").state == "queued"
    assert connection.cancel("waiting").state == "cancelled"
    connection.cancel("before")
    assert finished(connection, "before").state == "cancelled"
    assert connection.status("waiting").state == "cancelled"


def test_the_engine_answers_while_the_worker_computes(connection, clip, start_endless):
    start_endless(connection, "busy", clip(8))
    times = sorted(connection.ping(timeout=PATIENCE) for _ in range(50))
    connection.cancel("busy")
    assert times[25] < 0.25
    assert finished(connection, "busy").state == "cancelled"


def test_a_paused_job_lets_others_pass_and_goes_on_where_it_was(connection, settings, clip, start_endless):
    frames = clip(2)
    start_endless(connection, "paused", frames)
    connection.submit("passes", settings(), frames)
    assert connection.status("passes").ahead == 1
    connection.pause("paused")
    assert connection.pause("paused").state in ("running", "paused")
    assert finished(connection, "passes").state == "done"
    assert connection.status("paused").state == "paused"
    connection.submit("waits", settings(steps=3), frames)
    assert connection.pause("passes").state == "done", "what has ended stays so"
    assert connection.resume("passes").state == "done"
    connection.resume("paused")
    wait_until(lambda: connection.status("paused").state == "running", "its turn")
    connection.cancel("paused")
    assert finished(connection, "paused").state == "cancelled"
    assert connection.pause("paused").state == connection.resume("paused").state == "cancelled"


def test_pausing_and_resuming_at_once_loses_nothing(connection, settings, clip, start_endless):
    start_endless(connection, "both", clip(1))
    connection.pause("both")
    connection.resume("both")
    wait_until(lambda: connection.status("both").state in ("queued", "running"), "its going on")
    connection.cancel("both")
    connection.retry("both")
    wait_until(lambda: connection.status("both").stage == "invert", "its going on")
    connection.cancel("both")
    assert finished(connection, "both").state == "cancelled"


def test_waiting_jobs_run_in_the_order_that_is_asked_for(connection, settings, clip, start_endless):
    frames = clip(1)
    start_endless(connection, "order", frames)
    for job_id in ("a", "b", "c"):
        connection.submit(job_id, settings(steps=1), frames)
    assert connection.move("c", before="a").ahead == 1
    assert connection.move("a").ahead == 3
    assert connection.move("b", before="b").ahead == 2
    assert [connection.status(job_id).ahead for job_id in ("c", "b", "a")] == [1, 2, 3]
    assert connection.move("b", before="order").ahead == 0, "before one that runs: next"
    assert connection.status("order").state == "running"
    with pytest.raises(ProtocolError) as refused:
        connection.move("a", before="unknown")
    assert refused.value.code == "no-such-job"
    ended = []
    connection.cancel("order")

    def all_ended():
        ended.extend(status.job_id for status in connection.events() if status.state == "done")
        return len(ended) == 3

    wait_until(all_ended, "their ends")
    assert ended == ["b", "c", "a"]


def test_a_cancelled_job_is_tried_again_when_asked(connection, settings, clip, start_endless, tmp_path):
    frames = clip(1)
    start_endless(connection, "blocks", frames)
    connection.submit("again-please", settings(), frames)
    connection.cancel("again-please")
    assert connection.retry("again-please").state == "queued"
    connection.cancel("blocks")
    assert finished(connection, "again-please").state == "done"
    assert connection.retry("again-please").state == "done", "there is nothing to do"
    assert len(connection.fetch("again-please", tmp_path / "out").frames) == 1


def test_a_result_is_taken_and_forgotten(connection, shared_engine, settings, clip, tmp_path):
    connection.submit("kept", settings(), clip(1))
    with pytest.raises(ProtocolError) as refused:
        connection.taken("kept")
    assert refused.value.code == "not-done"
    assert not finished(connection, "kept").taken
    connection.fetch("kept", tmp_path / "out")
    assert connection.taken("kept").taken and connection.taken("kept").taken
    assert connection.status("kept").frames, "it may be fetched again for a while"
    connection.forget("kept")
    connection.forget("kept")
    with pytest.raises(ProtocolError) as refused:
        connection.status("kept")
    assert refused.value.code == "no-such-job"


def test_a_running_job_can_be_forgotten(connection, settings, clip, start_endless):
    frames = clip(1)
    start_endless(connection, "unwanted", frames)
    connection.forget("unwanted")
    with pytest.raises(ProtocolError) as refused:
        connection.status("unwanted")
    assert refused.value.code == "no-such-job"
    connection.submit("unwanted", settings(), frames)
    assert finished(connection, "unwanted").state == "done", "the id is free again"


def test_a_damaged_result_is_made_again(connection, shared_engine, settings, clip, tmp_path):
    connection.submit("damaged", settings(), clip(1))
    blob = finished(connection, "damaged").frames[0]
    path = shared_engine.home / "blobs" / "local" / blob
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"x")
    with pytest.raises(ProtocolError) as refused:
        connection.fetch("damaged", tmp_path / "out")
    assert refused.value.code == "no-such-blob"
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert connection.retry("damaged").state in ("queued", "running")
    assert finished(connection, "damaged").frames == [blob]
    assert connection.fetch("damaged", tmp_path / "out").frames[0].read_bytes() == right


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (dict(source=" "), "bad-settings"),
        (dict(steps=0), "bad-settings"),
        (dict(guidance=float("nan")), "bad-settings"),
        (dict(blend_source=("sky",)), "bad-settings"),
        (dict(mask_words=("ball",) * 17), "over-limit"),
        (dict(source="a ball " * 10_000), "over-limit"),
    ],
    ids=["empty prompt", "no steps", "no number", "unknown word", "masks", "long prompt"],
)
def test_settings_are_refused_before_any_upload(connection, settings, clip, changes, code):
    sent = []
    wrong = msgspec.structs.replace(settings(), **changes)
    with pytest.raises(ProtocolError) as refused:
        connection.submit("refused", wrong, clip(1, seed=99), on_sent=lambda *now: sent.append(now))
    assert refused.value.code == code
    assert not sent
    with pytest.raises(ProtocolError) as refused:
        connection.status("refused")
    assert refused.value.code == "no-such-job"


@pytest.mark.parametrize("path", ["/etc", "../checkpoint", "checkpoint"])
def test_a_model_is_a_name_and_never_a_path(connection, settings, clip, path):
    with pytest.raises(ProtocolError) as refused:
        connection.submit("by-path", settings(model=path), clip(1, seed=98))
    assert refused.value.code == "unknown-model" and path in refused.value.sentence


def test_a_checkpoint_that_is_not_there_is_refused_before_any_upload(
    connection, shared_engine, settings, clip, tmp_path
):
    name = models.register(shared_engine.home, tmp_path / "nowhere")
    assert name in connection.hello().models
    sent = []
    with pytest.raises(ProtocolError) as refused:
        connection.submit("nowhere", settings(model=name), clip(1, seed=5), on_sent=lambda *now: sent.append(now))
    assert refused.value.code == "checkpoint"
    assert "nowhere" in refused.value.sentence and refused.value.remedy
    assert not sent


def sixteen_bit(path):
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def other_size(path):
    Image.new("RGB", (20, 20)).save(path)


def no_png(path):
    path.write_bytes(b"GIF89a" + bytes(100))


def header_only(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (sixteen_bit, "sixteen-bit"),
        (truncated, "damaged-frame"),
        (header_only, "damaged-frame"),
        (other_size, "sizes-differ"),
        (no_png, "not-png"),
    ],
)
def test_a_bad_frame_is_named(connection, settings, clip, spoil, code):
    frames = clip(2, 64, 64)
    spoil(frames[1])
    connection.submit(f"bad-{code}-{spoil.__name__}", settings(), frames)
    status = finished(connection, f"bad-{code}-{spoil.__name__}")
    assert (status.state, status.error.code) == ("failed", code)
    assert "Frame 2" in status.error.sentence and status.error.remedy


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"spoilt"), Path.unlink], ids=["damaged", "lost"])
def test_a_frame_that_the_engines_disk_has_spoilt_is_sent_again(connection, shared_engine, settings, clip, spoil):
    frames = clip(2, seed=7)
    blobs = [hashlib.sha256(path.read_bytes()).hexdigest() for path in frames]
    connection.submit("blocks-spoilt", settings(steps=999), frames)
    connection.submit("spoilt", settings(), frames)
    spoil(shared_engine.home / "blobs" / "local" / blobs[1])
    connection.cancel("blocks-spoilt")
    status = finished(connection, "spoilt")
    assert (status.state, status.error.code) == ("failed", "frame-damaged")
    assert "Frame 2" in status.error.sentence and status.error.remedy
    sent = []
    connection.forget("spoilt")
    connection.submit("spoilt", settings(), frames, on_sent=lambda *now: sent.append(now))
    assert sent[0] == (1, 2), "only the spoilt one is asked for"
    assert finished(connection, "spoilt").state == "done"
    connection.forget("spoilt")
    connection.forget("blocks-spoilt")


def test_greys_and_palettes_are_taken(connection, settings, tmp_path):
    paths = [tmp_path / "1.png", tmp_path / "2.png"]
    Image.new("L", (32, 32), 100).save(paths[0])
    Image.new("P", (32, 32), 3).save(paths[1])
    connection.submit("grey", settings(), paths)
    assert finished(connection, "grey").state == "done"
    fetched = connection.fetch("grey", tmp_path / "out")
    assert [pixels(path).shape for path in fetched.frames] == [(32, 32, 3)] * 2


def test_the_queue_is_bounded(connection, settings, clip, start_endless):
    frames = clip(1)
    start_endless(connection, "queue-0", frames)
    ids = [f"queue-{number}" for number in range(limits.MAX_CLIENT_JOBS)]
    for job_id in ids[1:]:
        connection.submit(job_id, settings(), frames)
    with pytest.raises(ProtocolError) as refused:
        connection.submit("one-more", settings(), frames)
    assert refused.value.code == "queue-full" and refused.value.remedy
    for job_id in reversed(ids):
        connection.cancel(job_id)
    assert finished(connection, ids[0]).state == "cancelled"


def test_what_is_not_there_is_said(connection, settings, clip, tmp_path, start_endless):
    frames = clip(1)
    with pytest.raises(ProtocolError) as refused:
        connection.fetch("unknown", tmp_path)
    assert refused.value.code == "no-such-job"
    with pytest.raises(ProtocolError) as refused:
        connection.submit("lost", settings(), [*frames, tmp_path / "lost.png"])
    assert refused.value.code == "cannot-read"
    start_endless(connection, "unfinished", frames)
    with pytest.raises(ProtocolError) as refused:
        connection.fetch("unfinished", tmp_path)
    assert refused.value.code == "not-done"
    connection.cancel("unfinished")
    with pytest.raises(ProtocolError) as refused:
        connection.submit("long", settings(), frames * (limits.MAX_FRAMES + 1))
    assert refused.value.code == "over-limit"


def test_memory_is_told_and_freed(connection, settings, clip):
    frames = clip(1, seed=1030)
    assert finished_memory(connection, settings(), frames, "memory-first") > 50e6  # torch alone takes more
    connection.rest()
    wait_until(lambda: connection.held() == (0, 0), "the memory's end")
    assert finished_memory(connection, settings(steps=2), frames, "memory-again") > 50e6  # another worker took over


def test_memory_is_not_freed_under_a_job(connection, settings, clip):
    connection.submit("memory-long", settings(steps=500), clip(2, seed=1031))
    wait_until(lambda: connection.status("memory-long").state == "running", "the job")
    with pytest.raises(ProtocolError, match="The engine is at work on a job. Pause or cancel it first."):
        connection.rest()
    connection.forget("memory-long")


def finished_memory(connection, settings, frames, job_id: str) -> int:
    connection.submit(job_id, settings, frames)
    assert finished(connection, job_id).state == "done"
    wait_until(lambda: connection.held()[0], "the memory")
    return connection.held()[0]
