"""When to try again to reach an engine. Without bpy."""

from __future__ import annotations

import time

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each try to connect again; the last one is repeated."""
MOST_TRIES = 6
"""Of a local engine that does not last; a remote one may come back at any time."""


class Tries:
    """Those that have failed since an engine was there."""

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """An engine lasts, or none is wanted."""
        self.count, self._next = 0, 0.0

    def failed(self) -> None:
        """One more; the next waits longer."""
        self.count += 1
        self._next = time.monotonic() + PAUSES[min(self.count, len(PAUSES)) - 1]

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() >= self._next

    @property
    def over(self) -> bool:
        """Whether a local engine has failed too often."""
        return self.count > MOST_TRIES
