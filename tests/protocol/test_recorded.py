"""Bytes that released versions have sent stay readable, and say what they said. `record.py` has made them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from protocol import messages, wire

RECORDED = Path(__file__).parent / "recorded"
FILES = sorted(RECORDED.glob("version_*/*.bin"))


def contains(found: object, said: object) -> bool:
    """Whether all of `said` is in `found`, which may have fields that came later."""
    if isinstance(said, dict) and isinstance(found, dict):
        return all(name in found and contains(found[name], value) for name, value in said.items())
    if isinstance(said, list) and isinstance(found, list):
        return len(found) == len(said) and all(map(contains, found, said))
    return found == said


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_recorded_message_says_what_it_said(path):
    said = json.loads((path.parent / "messages.json").read_text(encoding="utf-8"))[path.stem]
    message = wire.unpack([path.read_bytes()], sender="client").message
    assert type(message).__name__ == path.stem
    assert contains(json.loads(msgspec.json.encode(message)), said)


def test_every_message_of_the_first_version_is_recorded():
    first = RECORDED / "version_1"
    assert {path.stem for path in FILES} == json.loads((first / "messages.json").read_text()).keys()
    assert len(FILES) == 19 and all(hasattr(messages, path.stem) for path in FILES)


def test_what_was_said_is_told_from_what_was_not():
    assert contains({"a": [1, {"b": 2, "new": 3}]}, {"a": [1, {"b": 2}]})
    for found in ({"a": [1, {"b": 3}]}, {"a": [1]}, {}, {"a": 1}):
        assert not contains(found, {"a": [1, {"b": 2}]})
