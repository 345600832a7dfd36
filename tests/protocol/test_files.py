"""The client's files: digests out, verified files in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from protocol import files, limits
from protocol.errors import ProtocolError
from protocol.files import Download
from protocol.messages import JobStatus

REPOSITORY = Path(__file__).resolve().parents[2]


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def arrive(path: Path, blob: str, *pieces: bytes) -> None:
    """Have a blob arrive in `pieces`."""
    download, offset = Download(path, blob), 0
    for piece in pieces:
        download.add(offset, piece)
        offset += len(piece)
    download.finish([path])


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "frames" / "00001.png"
    arrive(path, name_of(b"one two"), b"one", b" two")
    assert path.read_bytes() == b"one two"
    assert files.has(path, name_of(b"one two"))
    assert not files.has(path, name_of(b"other"))
    assert files.digest(path) == name_of(b"one two")
    assert [path.name for path in path.parent.iterdir()] == ["00001.png"]


def test_wrong_bytes_leave_the_old_file(tmp_path):
    path = tmp_path / "00001.png"
    path.write_bytes(b"old")
    with pytest.raises(ProtocolError) as refused:
        arrive(path, name_of(b"new"), b"not new")
    assert refused.value.code == "digest-mismatch"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_transfer_that_broke_off_goes_on_where_it_was(tmp_path):
    path, blob = tmp_path / "00001.png", name_of(b"one two three")
    first = Download(path, blob)
    first.add(0, b"one ")
    first.close()
    assert not path.exists() and files.received(path, blob) == 4
    assert files.received(path, name_of(b"another")) == 0
    second = Download(path, blob)
    assert second.received == 4
    second.add(0, b"one ")
    second.add(9, b"out of place")
    second.add(4, b"two three")
    second.finish([path, tmp_path / "copies" / "00002.png"])
    assert path.read_bytes() == b"one two three" == (tmp_path / "copies" / "00002.png").read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00001.png", "00002.png", "copies"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on a process's files there")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    program = f"""
import resource, pathlib
from protocol.files import Download
from protocol.errors import ProtocolError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path = pathlib.Path({str(tmp_path)!r}) / "00001.png"
try:
    download = Download(path, "0" * 64)
    for number in range(3):
        download.add(900 * number, bytes(900))
    download.finish([path])
except ProtocolError as error:
    print(error.code)
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.stdout == "disk-full\n", result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "frames").write_bytes(b"a file")
    with pytest.raises(ProtocolError) as refused:
        Download(tmp_path / "frames" / "00001.png", "0" * 64)
    assert refused.value.code == "cannot-write"


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_frame_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "00007.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProtocolError) as refused:
        files.digest(path)
    assert refused.value.code == "cannot-read"
    assert "00007.png" in refused.value.sentence


def test_a_giant_frame_is_refused_unread(tmp_path):
    path = tmp_path / "00001.png"
    with open(path, "wb") as file:
        file.truncate(limits.MAX_BLOB_BYTES + 1)
    with pytest.raises(ProtocolError) as refused:
        files.digest(path)
    assert refused.value.code == "over-limit"


def test_words_become_folders_of_their_own(tmp_path):
    blobs = ["0" * 64]
    status = JobStatus(
        job_id="j", state="done", frames=blobs, masks=dict.fromkeys(["Ball", "ball,", "../x", "球", "球体"], blobs)
    )
    fetched = files.plan(status, tmp_path)
    folders = [paths[0].parent.name for paths in fetched.masks.values()]
    assert folders == ["ball", "ball-2", "x", "word", "word-2"]
    assert all(path.parent.parent == tmp_path / "masks" for paths in fetched.masks.values() for path in paths)
    assert fetched.frames == [tmp_path / "frames" / "00001.png"]
