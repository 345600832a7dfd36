"""Several workers: many strips at once, one long strip in parts, and what becomes of parts when workers die."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import msgspec
import pytest

from engine.errors import EditError
from engine.parts import Part
from engine.service import divided, pipes
from engine.service.accounts import LOCAL
from engine.service.shares import FILE_NAME, YOURSELF, Allowed, Shares, allow
from engine.service.store import Store
from protocol import messages, models
from tests.engine.families import make_tuned
from tests.service.harness import Engine, finished, gone, wait_until

LONG = 32
"""Frames: two parts."""


@pytest.fixture(scope="module")
def long_settings(settings):
    def make(**changes):
        blend = dict(blend_source=("ball",), blend_target=("ball",), keep_background=True)
        return settings(precision="float32", **(blend | changes))

    return make


@pytest.fixture(scope="module")
def pair(tmp_path_factory, checkpoint):
    """An engine with two workers, warm after the first test."""
    home = tmp_path_factory.mktemp("pair") / "home"
    models.register(home, checkpoint)
    engine = Engine(home, "--workers", "2")
    yield engine
    assert engine.end(signal.SIGTERM) == 0


def ran(engine, *jobs: str) -> list[tuple[str, str | None]]:
    """Which parts of these jobs were given to workers, in order."""
    return [(line["job"], line.get("part")) for line in engine.logged("job started") if line["job"] in jobs]


def whole_result(connection, job_id, asked, frames) -> messages.JobStatus:
    """What an engine with one worker makes of it."""
    connection.submit(job_id, asked, frames)
    status = finished(connection, job_id)
    assert status.state == "done" and not [note for note in status.notes if "parts" in note]
    return status


def test_masks_and_edits_with_own_masks_stay_whole(settings, tmp_path):
    edit = pipes.Work(job_id="job", settings=settings(), frames=["0" * 64] * 100, fps=24.0)
    for changes in (dict(task="masks"), dict(own_masks=edit.frames)):
        assert divided.split(tmp_path, msgspec.structs.replace(edit, **changes), 4) == [Part(0, 100)]
    assert len(divided.split(tmp_path, edit, 4)) > 1


def test_a_parts_result_is_taken_again_only_where_the_same_model_and_engine_would_make_it(settings, tmp_path):
    store = Store(tmp_path)
    work = pipes.Work(job_id="job", settings=settings(), frames=["0" * 64] * 8, fps=24.0, part=Part(0, 4))
    result = pipes.Finished(job_id="job", frames=[store.put(work.owner, b"a frame")], masks={}, notes=[], timings={})
    divided.keep(tmp_path, work, "this engine", result)
    assert divided.kept(tmp_path, work, "this engine", store) == result
    assert divided.kept(tmp_path, work, "another", store) is None


def test_a_long_strip_in_parts_is_what_one_worker_makes(connection, pair, long_settings, clip):
    asked, frames = long_settings(), clip(LONG)
    right = whole_result(connection, "in-parts", asked, frames)
    with pair.connect() as client:
        client.submit("long", asked, frames)
        status = finished(client, "long")
        assert sorted(ran(pair, "long")) == [("long", "0-16"), ("long", "16-32")]
        assert status.frames == right.frames and status.masks == right.masks, "by their digests: bit for bit"
        assert right.packs and (status.packs, status.soft_masks) == (right.packs, right.soft_masks)
        assert [note for note in status.notes if "2 parts" in note]
        assert not list((pair.home / "jobs" / LOCAL).glob("*")), "nothing is left over"
        assert "2 workers" in client.hello().device


def test_many_strips_take_a_worker_each(pair, long_settings, clip):
    with pair.connect() as client:
        client.submit("first", long_settings(steps=999), clip(2))
        for name in ("second", "third"):
            client.submit(name, long_settings(), clip(LONG, seed=len(name)))
        assert finished(client, "third").state == finished(client, "second").state == "done"
        assert client.status("first").state == "running"
        assert ran(pair, "second") == [("second", None)], "with the others waiting it had no worker to spare"
        assert len(set(pair.workers())) == 2
        client.cancel("first")


def test_what_needs_the_whole_clip_stays_whole(pair, long_settings, clip):
    with pair.connect() as client:
        client.submit("pooled", long_settings(normalization="clip"), clip(LONG))
        assert finished(client, "pooled").state == "done"
        assert ran(pair, "pooled") == [("pooled", None)]


def test_a_checkpoint_that_needs_the_whole_clip_gets_it_whole(pair, settings, clip, tmp_path):
    """Which the server cannot know: workers say so once they have loaded it."""
    folder = make_tuned(tmp_path / "tuned")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 8}))
    with pair.connect() as client:
        client.submit("tuned", settings(model=models.register(pair.home, folder)), clip(LONG))
        status = finished(client, "tuned")
        assert (status.state, len(status.frames)) == ("done", LONG), status.error
        assert not [note for note in status.notes if "parts" in note]
        started = [part for _, part in ran(pair, "tuned")]
        assert started[-1] is None and set(started[:-1]) <= {"0-16", "16-32"} and len(started) > 1


def test_killed_workers_and_server_lose_no_part(connection, start_engine, tmp_path, long_settings, clip):
    asked, frames = long_settings(steps=6), clip(LONG)
    right = whole_result(connection, "killed", asked, frames)
    engine = start_engine(tmp_path / "home", "--workers", "2")
    with engine.connect() as client:
        client.submit("long", asked, frames)
        wait_until(lambda: client.status("long").stage == "edit", "the edit")
        victim = engine.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(engine.workers()) > 2, "another worker")
        wait_until(lambda: list((engine.home / "jobs").glob("*/long/*/result-*")), "a part that is done")
    engine.end(signal.SIGKILL)
    engine = start_engine(tmp_path / "home", "--workers", "2")
    with engine.connect() as client:
        status = finished(client, "long")
        assert status.state == "done" and status.frames == right.frames and status.masks == right.masks


def test_a_cancelled_job_leaves_all_its_workers(pair, long_settings, clip):
    with pair.connect() as client:
        client.submit("endless", long_settings(steps=999), clip(LONG, seed=3))
        wait_until(lambda: client.status("endless").workers == 2, "two workers on one strip")
        wait_until(lambda: client.status("endless").stage == "invert", "its steps")
        at_work = [pid for pid in pair.workers() if not gone(pid)]
        client.cancel("endless")
        assert finished(client, "endless").state == "cancelled"
        client.submit("next", long_settings(), clip(2))
        assert finished(client, "next").state == "done"
        assert len(at_work) == 2 and not any(map(gone, at_work)), "no worker had to be ended for it"


def test_shares_are_read_again_and_only_for_who_is_known(tmp_path):
    shares = Shares(tmp_path)
    assert (shares.share(LOCAL), shares.most(LOCAL)) == (1.0, 0)
    allow(tmp_path, YOURSELF, Allowed(3.0, 2))
    assert (shares.share(LOCAL), shares.most(LOCAL)) == (3.0, 2)
    for name, allowed in (("nobody", Allowed()), (YOURSELF, Allowed(0.0))):
        with pytest.raises(EditError):
            allow(tmp_path, name, allowed)
    (tmp_path / FILE_NAME).write_bytes(b"{")
    with contextlib.suppress(OSError):
        os.utime(tmp_path / FILE_NAME, (1, 1))
    assert shares.share(LOCAL) == 1.0
