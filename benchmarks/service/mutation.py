"""Garbage that still looks like something: documents with a few of their values changed, or a few of their bytes."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import msgspec

VALUES = [
    None, True, 0, 1, -1, 2**31 - 1, 2**31, 2**62, 2**62 + 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 0.5, 1e300,
    float("nan"), float("inf"), "", "x", "queued", "done", "a red ball", "../up", "ball\0", "\U0001f3be" * 300,
    "ab" * 32, "AB" * 32, "k" * 40, "local", "builtin", "type", "ping", b"", b"bytes", [], [[]], {}, {"": {}},
]  # fmt: skip
"""Edges of what the protocol's types allow, and values of other types."""
GIANTS = b"\xdd\xdf\xdb\xc6\xd9\xdc\xde"
"""First bytes of msgpack's arrays, maps and strings with a count behind them."""

Encode = Callable[[object], bytes]
Decode = Callable[[bytes], object]


def mutate(source: random.Random, data: bytes, decode: Decode, encode: Encode) -> bytes:
    """`data` changed in one or a few places: inside its structure where it has one, else among its bytes."""
    for _ in range(source.randint(1, 4)):
        if source.random() < 0.7:
            try:
                data = encode(_changed(source, decode(data)))
                continue
            except (ValueError, TypeError, RecursionError, OverflowError, msgspec.MsgspecError):
                pass  # it has none
        data = _bytes_changed(source, data)
    return data


def _changed(source: random.Random, node: object) -> object:
    """The same document with one value, key or element of it changed, added or gone."""
    if isinstance(node, dict) and node and source.random() < 0.85:
        key = source.choice(list(node))
        match source.randrange(6):
            case 0:
                return {name: value for name, value in node.items() if name != key}
            case 1:
                return node | {source.choice(["", "request", "type", "owner", "x" * 70, 7]): _value(source)}
            case _:
                return node | {key: _changed(source, node[key])}
    if isinstance(node, list) and node and source.random() < 0.85:
        at = source.randrange(len(node))
        match source.randrange(6):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1:
                return node * source.choice([2, 3, 100])
            case _:
                return [*node[:at], _changed(source, node[at]), *node[at + 1 :]]
    return _value(source)


def _value(source: random.Random) -> object:
    match source.randrange(8):
        case 0:
            return source.randbytes(source.randint(0, 40)).decode("latin-1")
        case 1:
            return source.getrandbits(source.choice([8, 31, 63])) - source.getrandbits(8)
        case 2:
            return {source.choice(["", "a", "ball"]): source.choice(VALUES)}
        case _:
            return source.choice(VALUES)


def _bytes_changed(source: random.Random, data: bytes) -> bytes:
    at = source.randint(0, len(data))
    match source.randrange(6):
        case 0:
            return data[:at] + bytes([source.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + source.randbytes(source.randint(1, 16)) + data[at:]
        case 3:
            count = bytes([source.choice(GIANTS)]) + struct.pack(">I", source.getrandbits(32))
            return data[:at] + count + data[at + 5 :]
        case 4:
            return data[:at] + source.choice([b"\x91", b"\x81", b"[", b'{"":']) * source.choice([3, 2000]) + data[at:]
        case _:
            return source.randbytes(source.randint(0, 64))
