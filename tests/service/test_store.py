"""The blob store: a name is given to whole, verified bytes only."""

from __future__ import annotations

import hashlib

import pytest

from engine.service import store as stores
from engine.service.store import Store
from protocol import limits
from protocol.errors import ProtocolError
from protocol.messages import Missing


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()
    assert list((tmp_path / "partial").iterdir()) == []


def test_chunks_become_a_blob(store):
    name = name_of(b"one two three")
    assert store.missing("me", [name, name]) == [Missing(name, 0)]
    assert store.upload("me", name, 13, 0, b"one ") == 4
    assert store.missing("me", [name]) == [Missing(name, 4)]
    assert store.upload("me", name, 13, 4, memoryview(b"two three")) == 13
    assert store.missing("me", [name]) == []
    assert store.chunk("me", name, 0) == (b"one two three", 13)
    assert store.chunk("me", name, 8) == (b"three", 13)
    assert store.upload("me", name, 13, 0, b"one ") == 13, "a repeated chunk is harmless"


def test_a_chunk_out_of_place_changes_nothing(store):
    name = name_of(b"abcdef")
    assert store.upload("me", name, 6, 3, b"def") == 0
    assert store.upload("me", name, 6, 0, b"abc") == 3
    assert store.upload("me", name, 6, 0, b"abc") == 3
    assert store.upload("me", name, 6, 5, b"f") == 3
    assert store.upload("me", name, 6, 3, b"def") == 6


@pytest.mark.parametrize("chunk", [b"", b"more than four"])
def test_a_chunk_that_does_not_fit_is_refused(store, chunk):
    with pytest.raises(ProtocolError) as refused:
        store.upload("me", "0" * 64, 4, 0, chunk)
    assert refused.value.code == "malformed"


def test_a_blob_over_the_limit_is_refused_at_its_first_chunk(store):
    with pytest.raises(ProtocolError) as refused:
        store.upload("me", "0" * 64, limits.MAX_BLOB_BYTES + 1, 0, b"x")
    assert refused.value.code == "over-limit"


def test_other_bytes_than_announced_are_refused_and_may_be_sent_again(store):
    name = name_of(b"right")
    with pytest.raises(ProtocolError) as refused:
        store.upload("me", name, 5, 0, b"wrong")
    assert refused.value.code == "digest-mismatch"
    assert store.upload("me", name, 5, 0, b"right") == 5


def test_half_uploads_are_bounded(store, tmp_path):
    for number in range(stores.MAX_UPLOADS + 10):
        store.upload("me", f"{number:064x}", 2, 0, b"x")
    assert len(list((tmp_path / "partial").iterdir())) == stores.MAX_UPLOADS
    assert store.missing("me", [f"{0:064x}"]) == [Missing(f"{0:064x}", 0)]


def test_results_are_named_by_their_bytes(store):
    assert store.put("me", b"a result") == store.put("me", b"a result") == name_of(b"a result")
    assert store.chunk("me", name_of(b"a result"), 0) == (b"a result", 8)


def test_bytes_that_are_not_there_are_refused(store):
    name = store.put("me", b"abc")
    assert store.chunk("me", name, 3) == (b"", 3), "where a transfer goes on that was cut at its very end"
    with pytest.raises(ProtocolError) as refused:
        store.chunk("me", name, 4)
    assert refused.value.code == "malformed"
    with pytest.raises(ProtocolError) as refused:
        store.chunk("me", "0" * 64, 0)
    assert refused.value.code == "no-such-blob"


def test_an_owner_finds_its_own_blobs_only(store):
    name = store.put("me", b"mine")
    assert store.missing("you", [name]) == [Missing(name, 0)]
    with pytest.raises(ProtocolError) as refused:
        store.chunk("you", name, 0)
    assert refused.value.code == "no-such-blob"
    assert store.sizes() == {("me", name): 4}
    store.remove("me", name)
    store.remove("me", name)
    assert store.missing("me", [name])


def test_damaged_bytes_are_no_blob(store):
    name = store.put("me", b"right")
    store.path("me", name).write_bytes(b"wrong")
    with pytest.raises(ProtocolError) as refused:
        store.chunk("me", name, 0)
    assert refused.value.code == "no-such-blob"
    assert store.missing("me", [name]), "it is asked for again"


def test_an_upload_that_nobody_goes_on_with_is_given_up(store, tmp_path, monkeypatch):
    begun, going_on = name_of(b"begun"), name_of(b"going on")
    store.upload("me", begun, 5, 0, b"be")
    store.upload("me", going_on, 8, 0, b"go")
    now = stores.time.monotonic()
    monkeypatch.setattr(stores.time, "monotonic", lambda: now + 100)
    store.upload("me", going_on, 8, 2, b"ing")
    store.drop_silent(60)
    assert [path.name for path in (tmp_path / "partial").iterdir()] == [f"upload-me-{going_on}"]
    assert store.missing("me", [begun, going_on]) == [Missing(begun, 0), Missing(going_on, 5)]


def test_blobs_of_an_engine_before_are_taken_over(tmp_path):
    name = name_of(b"old")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"old")
    store = Store(tmp_path)
    store.adopt()
    assert store.chunk("local", name, 0) == (b"old", 3)


def test_what_a_process_left_half_written_is_swept(store, tmp_path):
    for name in ("result-1", "upload-1"):
        (tmp_path / "partial" / name).touch()
    store.sweep("result-*")
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["upload-1"]
    Store(tmp_path).sweep()
    assert list((tmp_path / "partial").iterdir()) == []
