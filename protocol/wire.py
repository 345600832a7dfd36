"""Messages as ZeroMQ parts: one header (magic, version, msgpack), then raw buffers that are never copied into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import PROTOCOL_VERSION, limits
from .errors import UNREADABLE, ProtocolError
from .messages import Hello, Message, Refusal, Welcome, decode, encode

MAGIC = b"FZVE"
HANDSHAKE_VERSION = 0
"""Version of the messages that two sides must understand before they agree on one."""
STATUS_ALLOWED, STATUS_UNKNOWN_KEY, STATUS_TOO_MANY = 200, 400, 500
"""How an engine ends a client's handshake (ZeroMQ's authentication, RFC 27)."""
_PREAMBLE = len(MAGIC) + 1

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Packet:
    """A message and the buffers that came with it."""

    message: Message
    buffers: tuple[Buffer, ...]


def pack(message: Message, *buffers: Buffer) -> list[Buffer]:
    """The parts to send; `ProtocolError('over-limit')` where the other side would refuse them."""
    version = HANDSHAKE_VERSION if isinstance(message, (Hello, Welcome, Refusal)) else PROTOCOL_VERSION
    header = MAGIC + bytes([version]) + encode(message)
    parts = [header, *buffers]
    _check_sizes([len(part) for part in parts])
    return parts


def unpack(parts: Sequence[Buffer], sender: str) -> Packet:
    """The message in `parts`, none of which is copied, from `sender` (`client` or `engine`).

    `ProtocolError` with code `malformed`, `over-limit` or `version-mismatch` for anything else.
    """
    if not parts:
        raise _malformed("it is empty")
    _check_sizes([len(part) for part in parts])
    header = memoryview(parts[0])
    if len(header) < _PREAMBLE or header[: len(MAGIC)] != MAGIC:
        raise _malformed("it does not begin as one")
    version = header[len(MAGIC)]
    if version not in (HANDSHAKE_VERSION, PROTOCOL_VERSION):
        raise version_mismatch(**{"client": [PROTOCOL_VERSION], "engine": [PROTOCOL_VERSION], sender: [version]})
    try:
        message = decode(header[_PREAMBLE:])
    except UNREADABLE as error:
        raise _malformed(str(error)) from error
    return Packet(message, tuple(parts[1:]))


def version_mismatch(client: Sequence[int], engine: Sequence[int]) -> ProtocolError:
    """The error for two sides that have no protocol version in common: both are named, and which one to update."""
    older = "the engine" if max(engine) < max(client) else "the add-on"
    return ProtocolError(
        "version-mismatch",
        f"The add-on speaks protocol version {_listed(client)}, the engine version {_listed(engine)}.",
        f"Update {older}.",
    )


def _listed(versions: Sequence[int]) -> str:
    return " or ".join(str(version) for version in sorted(versions)[-4:])


def _check_sizes(sizes: list[int]) -> None:
    if len(sizes) > 1 + limits.MAX_BUFFERS:
        raise limits.over_limit("buffers in one message", len(sizes) - 1, limits.MAX_BUFFERS, "Send smaller messages.")
    if sizes[0] > limits.MAX_HEADER_BYTES:
        raise limits.over_limit("bytes in a header", sizes[0], limits.MAX_HEADER_BYTES, "Send fewer frames at once.")
    if max(sizes[1:], default=0) > limits.CHUNK_BYTES:
        raise limits.over_limit("bytes in one chunk", max(sizes[1:]), limits.CHUNK_BYTES, "Send smaller chunks.")


def _malformed(why: str) -> ProtocolError:
    return ProtocolError(
        "malformed",
        f"A message cannot be understood: {why}.",
        "Check that the add-on and the engine come from the same release.",
    )
