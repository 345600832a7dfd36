"""What is kept and what goes: the quota holds, and nothing goes that somebody needs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.service import accounts, retention
from engine.service.accounts import Accounts
from engine.service.journal import Journal
from engine.service.pipes import Work
from engine.service.retention import Retention
from engine.service.store import Store
from protocol.errors import ProtocolError
from protocol.keys import KeyPair
from protocol.messages import JobStatus
from protocol.settings import EditSettings

LONG_AGO = time.time() - 2 * retention.KEEP_SECONDS


class Kept:
    """A home with blobs, jobs and caches in it, and what may be kept there."""

    def __init__(self, home: Path, quota: int):
        self.home, self.store, self.journal = home, Store(home), Journal(home / "journal.sqlite3")
        self.accounts = Accounts(home, KeyPair.make().public)
        self.quota = quota

    @property
    def retention(self) -> Retention:
        return Retention(self.home, self.journal, self.store, self.accounts, self.quota)

    def blob(self, size: int, age: float = LONG_AGO, owner: str = "local") -> str:
        name = self.store.put(owner, os.urandom(size))
        os.utime(self.store.path(owner, name), (age, age))
        return name

    def job(self, job_id: str, frames: list[str], *, results: list[str] = (), **fields) -> None:
        settings = EditSettings(source="a ball", target="a cube")
        self.journal.add(Work(job_id=job_id, settings=settings, frames=frames, fps=24.0))
        if fields:
            self.journal.set("local", JobStatus(job_id=job_id, frames=list(results), **fields))

    def cache(self, name: str, size: int, age: float) -> Path:
        entry = self.home / "cache" / "inversions" / name
        entry.mkdir(parents=True)
        (entry / "step").write_bytes(bytes(size))
        os.utime(entry, (age, age))
        return entry

    def checkpoint(self, job_id: str, size: int) -> Path:
        """Some of it in a folder inside, as of a tuning, whose model has links to another one's files."""
        folder = self.home / "jobs" / "local" / job_id
        (folder / "model").mkdir(parents=True)
        (folder / "edit").write_bytes(bytes(size // 2))
        (folder / "model" / "weights").write_bytes(bytes(size - size // 2))
        elsewhere = self.home / "weights"
        elsewhere.write_bytes(bytes(10**6))
        os.link(elsewhere, folder / "model" / "linked")
        return folder

    def has(self, *names: str) -> list[bool]:
        return [self.store.path("local", name).exists() for name in names]


@pytest.fixture
def kept(tmp_path):
    kept = Kept(tmp_path, quota=1000)
    yield kept
    kept.journal.close()


def test_room_is_made_of_what_is_needed_least(kept):
    unused, newer = kept.blob(100, LONG_AGO), kept.blob(100, LONG_AGO + 60)
    frame, result, taken = kept.blob(100), kept.blob(100), kept.blob(100)
    kept.job("open", [frame])
    kept.job("unfetched", [frame], results=[result], state="done")
    kept.job("taken", [], results=[taken], state="done", taken=True)
    cached = kept.cache("old", 200, LONG_AGO)
    kept.retention.admit("local", 300)
    assert cached.exists(), "all fits: 700 and 300"
    kept.retention.admit("local", 400)
    assert not cached.exists() and all(kept.has(unused, newer, frame, result, taken)), "caches go first"
    kept.retention.admit("local", 600)
    assert kept.has(unused, newer, frame, result, taken).count(False) == 1, "then what no job needs"
    assert all(kept.has(frame, result))
    with pytest.raises(ProtocolError) as refused:
        kept.retention.admit("local", 801)
    assert refused.value.code == "store-full" and "Fetch" in refused.value.remedy
    assert kept.has(unused, newer, frame, result, taken) == [False, False, True, True, False]
    kept.retention.admit("local", 800)


def test_what_was_touched_lately_may_be_in_use(kept):
    uploading, cached = kept.blob(500, time.time()), kept.cache("warm", 500, time.time())
    with pytest.raises(ProtocolError) as refused:
        kept.retention.admit("local", 1)
    assert refused.value.code == "store-full"
    assert all(kept.has(uploading)) and cached.exists()


def test_what_is_half_uploaded_is_kept_no_longer_than_it_may_be_in_use(kept, monkeypatch):
    name = "0" * 64
    kept.store.upload("local", name, 2, 0, b"x")
    kept.retention.sweep()
    assert len(list((kept.home / "partial").iterdir())) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * retention.IN_USE_SECONDS)
    kept.retention.sweep()
    assert list((kept.home / "partial").iterdir()) == []


def test_each_client_has_its_share(kept):
    accounts.add(kept.home, "ada", (key := KeyPair.make().public))
    ada = accounts.owner_of(key)
    kept.blob(400, time.time(), owner=ada)
    with pytest.raises(ProtocolError) as refused:
        kept.retention.admit(ada, 200)
    assert refused.value.code == "store-full"
    kept.retention.admit("local", 500)
    accounts.revoke(kept.home, "ada")
    kept.retention.admit("local", 600)


def test_what_is_half_uploaded_has_its_room_already(kept):
    """Else a client could begin as many uploads as there may be in the room that one of them takes."""
    accounts.add(kept.home, "ada", KeyPair.make().public)
    name = "0" * 64
    assert kept.store.begins("local", name, 400, 0, b"x")
    kept.store.upload("local", name, 400, 0, b"x")
    assert not kept.store.begins("local", name, 400, 0, b"x") and not kept.store.begins("local", name, 400, 1, b"x")
    assert kept.store.begins("local", name, 401, 0, b"x"), "another size begins anew"
    kept.retention.admit("local", 100)
    with pytest.raises(ProtocolError) as refused:
        kept.retention.admit("local", 101)
    kept.store.close()
    assert refused.value.code == "store-full"


def test_time_passes_and_nothing_is_lost_that_was_not_fetched(kept):
    old, frame, result, taken = (kept.blob(50) for _ in range(4))
    kept.job("unfetched", [frame], results=[result], state="done")
    kept.job("taken", [], results=[taken], state="done", taken=True)
    kept.retention.sweep()
    assert kept.has(old, frame, result, taken) == [False, True, True, True], "what was taken stays for a day"
    kept.journal._database.execute("UPDATE jobs SET ended = ?", (LONG_AGO,))
    kept.retention.sweep()
    assert kept.has(frame, result, taken) == [True, True, False]
    assert kept.journal.status("local", "taken"), "it is known for a week"
    kept.journal._database.execute("UPDATE jobs SET ended = 0")
    kept.retention.sweep()
    assert kept.journal.status("local", "taken") is None
    assert kept.journal.status("local", "unfetched").frames == [result] and all(kept.has(frame, result))


def _put(store: Store, name: str) -> None:
    assert Store(store.path("local", name).parents[2], "worker").put("local", _OLD_BYTES) == name


def _upload(store: Store, name: str) -> None:
    assert store.upload("local", name, len(_OLD_BYTES), 0, _OLD_BYTES) == len(_OLD_BYTES)


def _ask(store: Store, name: str) -> None:
    assert store.missing("local", [name]) == []


_OLD_BYTES = b"mask" * 10


@pytest.mark.parametrize("use", [_put, _upload, _ask])
@pytest.mark.parametrize("pressed", [False, True])
def test_an_old_blob_that_somebody_relies_on_again_stays(kept, use, pressed):
    """Be it the same mask of another edit, or the frames of a job that is about to be submitted."""
    name = kept.store.put("local", _OLD_BYTES)
    os.utime(kept.store.path("local", name), (LONG_AGO, LONG_AGO))
    other, counted = kept.blob(10, LONG_AGO + 60), kept.retention
    use(kept.store, name)
    if pressed:
        counted.admit("local", 955)
    else:
        counted.sweep()
    assert kept.has(name, other) == [True, False]


@pytest.mark.parametrize("jump", [-10 * retention.KEEP_SECONDS, 10_000 * retention.KEEP_SECONDS])
def test_a_clock_that_jumps_costs_nothing_that_is_needed(kept, jump, monkeypatch):
    frame, result = kept.blob(50, time.time()), kept.blob(50, time.time())
    kept.job("open", [frame])
    kept.job("unfetched", [frame], results=[result], state="done")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    kept.retention.sweep()
    kept.retention.admit("local", 900)
    assert all(kept.has(frame, result))
    assert kept.journal.count() == 1 and kept.journal.status("local", "unfetched")


def test_checkpoints_stay_with_jobs_that_may_go_on(kept):
    for job_id, fields in (
        ("open", {}),
        ("paused", dict(state="paused")),
        ("failed", dict(state="failed")),
        ("done", dict(state="done")),
        ("cancelled", dict(state="cancelled")),
    ):
        kept.job(job_id, [], **fields)
        (kept.home / "jobs" / "local" / job_id).mkdir(parents=True)
    (kept.home / "jobs" / "local" / "unknown").mkdir()
    kept.retention.sweep()
    assert {path.name for path in (kept.home / "jobs" / "local").iterdir()} == {"open", "paused", "failed"}


@pytest.mark.parametrize("look", ["admit", "sweep"])
def test_what_failed_jobs_would_go_on_from_counts_and_makes_room_last(kept, look):
    folders = {}
    for job_id, state in [("newer", "failed"), ("older", "failed"), ("paused", "paused"), ("lately", "failed")]:
        kept.job(job_id, [], state=state)
        folders[job_id] = kept.checkpoint(job_id, 200)
    for job_id, ended in [("newer", LONG_AGO + 60), ("older", LONG_AGO)]:
        kept.journal._database.execute("UPDATE jobs SET ended = ? WHERE job_id = ?", (ended, job_id))
    cached, unused = kept.cache("old", 100, LONG_AGO), kept.blob(100, time.time() - 2 * retention.IN_USE_SECONDS)
    counted = kept.retention

    def there() -> set[str]:
        return {job_id for job_id, folder in folders.items() if folder.exists()}

    if look == "sweep":
        counted.sweep()
        assert cached.exists() and len(there()) == 4, "all fits"
        kept.quota = 750
        kept.retention.sweep()
        assert not cached.exists() and all(kept.has(unused)) and there() == {"newer", "paused", "lately"}
        kept.quota = 100
        kept.retention.sweep()
        assert there() == {"paused", "lately"}, "one pauses, and the other may be about to be tried again"
        return
    counted.admit("local", 200)
    assert not cached.exists() and not any(kept.has(unused)) and len(there()) == 4
    counted.admit("local", 201)
    assert there() == {"newer", "paused", "lately"}
    counted.admit("local", 600)
    assert there() == {"paused", "lately"}
    with pytest.raises(ProtocolError) as refused:
        counted.admit("local", 601)
    assert refused.value.code == "store-full" and "paused" in refused.value.remedy
    assert there() == {"paused", "lately"}


def test_an_upload_does_not_walk_what_is_kept(tmp_path):
    """What it takes to admit one is the same with 5,000 blobs as with 50."""

    def seconds(blobs: int) -> float:
        (home := tmp_path / str(blobs)).mkdir()
        kept = Kept(home, quota=10**6)
        (home / "blobs" / "local").mkdir()
        for number in range(blobs):
            (home / "blobs" / "local" / f"{number:064x}").write_bytes(b"frame")
        kept.cache("warm", 100, time.time())
        for number in range(blobs // 10):
            (home / "jobs" / "local" / str(number)).mkdir(parents=True)
            (home / "jobs" / "local" / str(number) / "edit").write_bytes(b"state")
        counted = kept.retention
        assert counted.used == 5 * blobs
        counted.admit("local", 10)  # which counts the cache and what jobs keep
        begin = time.process_time()
        for _ in range(300):
            counted.admit("local", 10)
        kept.journal.close()
        return time.process_time() - begin

    assert seconds(5000) < 5 * seconds(50)


def test_the_sums_are_those_of_the_disk(kept):
    """Whatever comes, comes again, goes and is damaged; and what a worker that died has left counts from a sweep on."""
    accounts.add(kept.home, "ada", (key := KeyPair.make().public))
    ada = accounts.owner_of(key)
    kept.quota = 10**6
    old, counted = kept.blob(300), kept.retention

    def right() -> bool:
        sizes = kept.store.sizes()
        owners = {owner: sum(size for (whose, _), size in sizes.items() if whose == owner) for owner in ("local", ada)}
        return counted.used == sum(sizes.values()) and all(
            counted._sizes.of(owner) == size for owner, size in owners.items()
        )

    assert right()
    mine, others = kept.blob(100, time.time()), kept.blob(70, time.time(), owner=ada)
    counted.count("local", [mine, mine])
    counted.count(ada, [others, others])
    assert right() and counted.used == 470
    kept.blob(40, time.time())
    assert not right()
    counted.sweep()
    assert right() and kept.has(old, mine) == [False, True]
    kept.store.remove("local", mine)
    counted.sweep()
    assert right() and counted.used == 110


def test_a_full_store_is_not_looked_through_for_every_frame(tmp_path, monkeypatch):
    kept, looks = Kept(tmp_path, quota=100_000), []
    for number in range(1000):
        kept.blob(100, LONG_AGO + number)
    room, needed = kept.retention, kept.journal.needed
    monkeypatch.setattr(kept.journal, "needed", lambda before: looks.append(before) or needed(before))
    for _ in range(30):
        room.admit("local", 100)
        room.count("local", [kept.blob(100, time.time())])
    assert room.used <= kept.quota and 0 < len(looks) <= 4
    kept.journal.close()
