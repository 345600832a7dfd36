"""CURVE key pairs: who an engine is, and who a client is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import zmq
from zmq.utils import z85

from .errors import UNREADABLE, ProtocolError
from .private import write_private

Key = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z", description="Z85")]


class KeyPair(msgspec.Struct, frozen=True):
    """A key that may be known, and the one that proves it: the secret belongs in no log."""

    public: Key
    secret: Key

    @classmethod
    def make(cls) -> KeyPair:
        """A new pair."""
        return cls(*(key.decode() for key in zmq.curve_keypair()))


def shown(key: Key) -> str:
    """A key as people copy it: 64 hex digits, which no shell takes for anything else."""
    return z85.decode(key).hex()


def parse(text: str) -> Key:
    """The key that somebody has copied; `ProtocolError` with code `bad-key`."""
    digits = text.strip()
    if len(digits) != 64 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise ProtocolError(
            "bad-key", f"'{digits[:80]}' is no key.", "Copy all of its 64 digits, as the other side shows them."
        )
    return z85.encode(bytes.fromhex(digits)).decode()


def load_or_make(path: Path) -> KeyPair:
    """The pair that is kept in `path`, made when it is first asked for; only its user may read it.

    `ProtocolError` with code `cannot-read` (also where the file is damaged: a new key would not be known anywhere) or
    `cannot-write`.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyPair)
    except FileNotFoundError:
        pair = KeyPair.make()
    except (OSError, *UNREADABLE) as error:
        raise ProtocolError(
            "cannot-read", f"The key in {path} cannot be read ({error}).", "Remove the file to have a new key made."
        ) from error
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, msgspec.json.encode(pair))
    except OSError as error:
        raise ProtocolError(
            "cannot-write",
            f"The key cannot be written to {path} ({error.strerror}).",
            "Check the folder's permissions.",
        ) from error
    return pair
