"""Frames on their way to the engine while Blender writes further ones. Without bpy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from .link import breaks
from .protocol import limits
from .protocol.connection import Connection
from .protocol.errors import ProtocolError
from .tasks import Cancelled

BATCH_BYTES = limits.TRANSFER_WINDOW * limits.CHUNK_BYTES
"""That are sent before anything else gets its turn, or the one file that is longer."""


class Ahead:
    """What is written of one job: Blender's side adds files, the client's thread sends them.

    Whatever is not sent so, for whatever reason, goes with the job itself, which also says why where that is refused.
    """

    def __init__(self):
        self._written: deque[Path] = deque()
        self.sent = 0
        """Files that the engine has."""
        self.over = False
        """Nothing more is to be sent so."""

    def add(self, path: Path) -> None:
        """A file is written, and stays as it is."""
        self._written.append(path)

    def end(self) -> None:
        """The job is handed over, or will never be: stop at the next chunk."""
        self.over = True

    def stop_if_over(self) -> None:
        """Raise `Cancelled` where nothing more is to be sent so."""
        if self.over:
            raise Cancelled

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""
        return bool(self._written) and not self.over

    def send_some(self, connection: Connection, still_wanted: Callable[[], None]) -> None:
        """Send the next files; `ProtocolError` where the connection is lost, `Cancelled` where that is not wanted."""

        def check() -> None:
            still_wanted()
            self.stop_if_over()

        batch = self._batch()
        try:
            if not connection.send_ahead(batch, check):
                self.end()
                return
        except ProtocolError as error:
            if breaks(error):
                raise
            self.end()
            return
        for _ in batch:
            self._written.popleft()
        self.sent += len(batch)

    def _batch(self) -> list[Path]:
        batch, taken = [], 0
        for path in list(self._written):
            try:
                size = path.stat().st_size
            except OSError:
                size = 0  # its sending will say more
            if batch and taken + size > BATCH_BYTES:
                break
            batch.append(path)
            taken += size
        return batch


class AheadOfJob:
    """Of one job that is exported: its files are sent ahead from the first one on, until that is over."""

    def __init__(self):
        self._ahead: Ahead | None = None

    @property
    def sent(self) -> int:
        """Files that the engine has."""
        return self._ahead.sent if self._ahead else 0

    def add(self, path: Path, client) -> None:
        """A file is written, and stays as it is; `client` sends it."""
        if self._ahead is None:
            self._ahead = Ahead()
            client.send_ahead(self._ahead)
        self._ahead.add(path)

    def end(self) -> None:
        """Nothing more is sent so."""
        if self._ahead:
            self._ahead.end()
        self._ahead = None


class Uploads:
    """What the client's thread sends ahead, one job's after the other's."""

    def __init__(self):
        self._aheads: list[Ahead] = []

    def take(self, ahead: Ahead) -> None:
        """Send what is added to it from now on."""
        self._aheads.append(ahead)

    @property
    def open(self) -> bool:
        """Whether more may come to be sent."""
        return any(not ahead.over for ahead in self._aheads)

    @property
    def waiting(self) -> Ahead | None:
        """The first that has something to send."""
        self._aheads = [ahead for ahead in self._aheads if not ahead.over]
        return next((ahead for ahead in self._aheads if ahead.waits), None)
