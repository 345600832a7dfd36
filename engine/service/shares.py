"""What each user may have of the workers: a file that whoever runs the engine writes, and a running engine reads again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engine.errors import EditError
from protocol.errors import UNREADABLE
from protocol.private import write_private

from . import accounts

FILE_NAME = "shares.json"
YOURSELF = "this-machine"
"""The name of this user's own programs, which need no key."""


class Allowed(msgspec.Struct, frozen=True):
    """One user's part."""

    share: float = 1.0
    """Of the workers' time, in relation to others' shares."""
    workers: int = 0
    """At a time, at most; 0: as many as there are."""


class Shares:
    """What users may have, by owner; one who is not in the file has a share of 1."""

    def __init__(self, home: Path):
        self._home, self._read_at, self._allowed = home, None, {}

    def share(self, owner: str) -> float:
        """That owner's share."""
        return self._of(owner).share

    def most(self, owner: str) -> int:
        """Workers that may do that owner's jobs at a time; 0 for any."""
        return self._of(owner).workers

    def _of(self, owner: str) -> Allowed:
        try:
            stamp = (self._home / FILE_NAME).stat().st_mtime_ns
        except OSError:
            stamp = None
        if stamp != self._read_at:
            keys, known = accounts.listed(self._home), listed(self._home)
            owners = {name: accounts.owner_of(key) for name, key in keys.items()} | {YOURSELF: accounts.LOCAL}
            self._read_at, self._allowed = stamp, {owners[name]: known[name] for name in known.keys() & owners.keys()}
        return self._allowed.get(owner, Allowed())


def listed(home: Path) -> dict[str, Allowed]:
    """What the file says, by clients' names; a damaged one says nothing."""
    try:
        return msgspec.json.decode((home / FILE_NAME).read_bytes(), type=dict[str, Allowed])
    except (OSError, *UNREADABLE):
        return {}


def allow(home: Path, name: str, allowed: Allowed) -> None:
    """Note what a client may have; `EditError` where there is no such client, or no such share."""
    if name != YOURSELF and name not in accounts.listed(home):
        raise EditError("no-such-client", f"There is no client '{name}'.", "`python -m engine keys list` names them.")
    if not 0.01 <= allowed.share <= 100 or allowed.workers < 0:
        raise EditError("bad-share", "A share lies between 0.01 and 100, and workers are 0 or more.")
    try:
        write_private(home / FILE_NAME, msgspec.json.encode(listed(home) | {name: allowed}))
    except OSError as error:
        raise EditError(
            "cannot-write", f"The engine's folder {home} cannot be written to ({error.strerror}).",
            "Check its permissions, or name another one with --home.",
        ) from error  # fmt: skip
