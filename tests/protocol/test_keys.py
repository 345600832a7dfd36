"""Keys: kept in private, shown so that people can copy them."""

from __future__ import annotations

import stat
import sys

import pytest

from protocol import keys
from protocol.errors import ProtocolError
from protocol.keys import KeyPair


def test_a_pair_is_made_once_and_is_its_users_alone(tmp_path):
    path = tmp_path / "new" / "key.json"
    pair = keys.load_or_make(path)
    assert keys.load_or_make(path) == pair != KeyPair.make()
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in path.parent.iterdir()] == ["key.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"public": "x", "secret": "y"}', b"\xff"])
def test_a_damaged_pair_is_said_and_left(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_bytes(content)
    with pytest.raises(ProtocolError) as refused:
        keys.load_or_make(path)
    assert refused.value.code == "cannot-read" and "Remove" in refused.value.remedy
    assert path.read_bytes() == content


def test_a_pair_that_cannot_be_kept_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProtocolError) as refused:
        keys.load_or_make(tmp_path / "file" / "key.json")
    assert refused.value.code in ("cannot-read", "cannot-write")


def test_what_is_shown_can_be_copied_back():
    for _ in range(20):
        key = KeyPair.make().public
        assert keys.parse(f" {keys.shown(key)}\n") == key == keys.parse(keys.shown(key).upper())


@pytest.mark.parametrize("text", ["", "0" * 63, "g" * 64, KeyPair.make().public, "٣" * 64])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ProtocolError) as refused:
        keys.parse(text)
    assert refused.value.code == "bad-key"
