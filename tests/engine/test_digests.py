"""A checkpoint's digest: of what was loaded, wherever it lies, and read once."""

import os
import shutil
from pathlib import Path

import pytest

from engine.models.digests import Files


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights").write_bytes(bytes(1000))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def remembered(tmp_path) -> Path:
    return tmp_path / "cache" / "checkpoints.json"


def files(folder: Path) -> Files:
    return Files({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()})


def rewrite(path: Path, data: bytes, same_time: bool):
    before = path.stat()
    path.write_bytes(data)
    change = 0 if same_time else 10**9
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + change))


def test_bytes_and_names_decide_and_not_the_place(folder, remembered, tmp_path):
    first = files(folder).digest(remembered)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert files(copy).digest(remembered) == first == files(folder).digest(remembered)
    (copy / "config.json").rename(copy / "other.json")
    assert files(copy).digest(remembered) != first
    rewrite(folder / "unet" / "weights", bytes(999) + b"1", same_time=False)
    assert files(folder).digest(remembered) != first


def test_what_was_read_before_is_not_read_again(folder, remembered):
    first = files(folder).digest(remembered)
    rewrite(folder / "unet" / "weights", bytes(999) + b"1", same_time=True)
    assert files(folder).digest(remembered) == first, "size and time are the same, so that nobody looked"
    remembered.unlink()
    assert files(folder).digest(remembered) != first


@pytest.mark.parametrize("change", [lambda path: rewrite(path, b"new", same_time=False), Path.unlink])
def test_files_that_changed_since_they_were_loaded_are_like_no_others(folder, remembered, change):
    loaded = files(folder)
    first = loaded.digest(remembered)
    assert loaded.unchanged()
    change(folder / "unet" / "weights")
    assert not loaded.unchanged()
    assert len({first, loaded.digest(remembered), loaded.digest(remembered), files(folder).digest(remembered)}) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": {"stamp": 1}}', b"\xff"])
def test_a_damaged_memory_is_made_anew(folder, remembered, damage):
    first = files(folder).digest(remembered)
    whole = remembered.read_bytes()
    remembered.write_bytes(damage)
    assert files(folder).digest(remembered) == first
    assert remembered.read_bytes() == whole


def test_without_room_for_the_memory_the_digest_is_the_same(folder, remembered):
    first = files(folder).digest(remembered)
    shutil.rmtree(remembered.parent)
    remembered.parent.write_text("a file")
    assert files(folder).digest(remembered) == first
