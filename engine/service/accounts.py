"""Who may speak to an engine: this user's own programs, and the clients whose keys were added on this machine."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from engine.errors import EditError
from protocol.errors import UNREADABLE
from protocol.keys import Key
from protocol.private import write_private

FILE_NAME = "clients.json"
SERVER_KEY_NAME = "server-key.json"
LOCAL = "local"
"""The owner of what this user's own programs ask for."""
_NAME = re.compile(r"\A[\w.@-]{1,60}\Z")


class Accounts:
    """Owners by their public keys. A key that is added or revoked counts from the next message on."""

    def __init__(self, home: Path, local_key: str):
        self._home, self._local = home, {local_key: LOCAL}
        self._owners: dict[str, str] = {}
        self._read_at: tuple[int, int] | None = None

    def owner(self, key: str) -> str | None:
        """Who proves to be the holder of this public key (Z85); None where nobody knows it."""
        self._refresh()
        return self._local.get(key) or self._owners.get(key)

    def allows(self, owner: str) -> bool:
        """Whether that owner may still speak."""
        self._refresh()
        return owner == LOCAL or owner in self._owners.values()

    @property
    def count(self) -> int:
        """Owners that there are."""
        self._refresh()
        return 1 + len(self._owners)

    def _refresh(self) -> None:
        try:
            stat = (self._home / FILE_NAME).stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            stamp = None
        if stamp == self._read_at:
            return
        try:
            known = listed(self._home)
        except EditError:
            return  # no descriptor is free, say: what was known counts until the file can be read
        self._read_at, self._owners = stamp, {key: owner_of(key) for key in known.values()}


def owner_of(key: str) -> str:
    """The owner that a client's public key stands for: a name for journals and folders that says nothing else."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def listed(home: Path) -> dict[str, str]:
    """Public keys of the clients that may connect, by name. A file that is missing or damaged allows nobody.

    `EditError` where it cannot be read.
    """
    try:
        return msgspec.json.decode((home / FILE_NAME).read_bytes(), type=dict[str, Key])
    except (FileNotFoundError, *UNREADABLE):
        return {}
    except OSError as error:
        raise EditError(
            "cannot-read", f"{home / FILE_NAME} cannot be read ({error.strerror}).", "Check who owns the file."
        ) from error


def add(home: Path, name: str, key: str) -> None:
    """Let the client with this public key (Z85) connect; `EditError` for what is no name, or is another client's."""
    clients = listed(home)
    if not _NAME.match(name):
        raise EditError("bad-name", f"'{name}' is no name for a client.", "Use letters, digits, '.', '-' and '@'.")
    if name in clients and clients[name] != key:
        raise EditError("name-taken", f"There is a client '{name}' with another key.", "Revoke it first.")
    _write(home, clients | {name: key})


def revoke(home: Path, name: str) -> None:
    """Let that client connect no longer; `EditError` where there is none of that name."""
    clients = listed(home)
    if clients.pop(name, None) is None:
        raise EditError("no-such-client", f"There is no client '{name}'.", "`python -m engine keys list` names them.")
    _write(home, clients)


def _write(home: Path, clients: dict[str, str]) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(home / FILE_NAME, msgspec.json.encode(clients))
    except OSError as error:
        raise EditError(
            "cannot-write", f"The engine's folder {home} cannot be written to ({error.strerror}).",
            "Check its permissions, or name another one with --home.",
        ) from error  # fmt: skip
