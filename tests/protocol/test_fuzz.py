"""Whatever the bytes are that are decoded anywhere, only named errors come out. The long form: `build.py service`."""

from __future__ import annotations

import contextlib
import random

import pytest

from benchmarks.service.decoders import Files, Fuzzer, Target, by_chance, fuzz, targets


def test_nothing_but_named_errors_escapes_from_any_decoder():
    assert fuzz(seconds=8, seed=random.randrange(1, 2**31)) > 500


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81\xa1x" + b"\x91" * 50_000,
        b'{"x":' + b"[" * 50_000,
        b"\x81\xa6job_id\xa5\xff\xff\xff\xff\xff",
        b'{"address": "\xff"}',
        b"\xff\xff\xff\xff",
    ],
    ids=["empty", "nested msgpack", "nested json", "no text in msgpack", "no text in json", "giant length"],
)
def test_what_once_escaped_does_not(tmp_path, data):
    with contextlib.closing(Files(tmp_path)) as files:
        for target in targets(files):
            target.run(data)


def test_the_fuzzer_fails_where_something_escapes():
    def run(data: bytes) -> None:
        if len(data) != 3:
            raise KeyError(data)

    with pytest.raises(KeyError):
        by_chance(Fuzzer([Target(run, [b"\x92\x01\x02"])]), seconds=20, seed=1)
