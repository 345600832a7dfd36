"""A thread that stands still while Blender's side does what no other thread may run beside. Without bpy.

That is an operator under `temp_override`: Blender up to 5.0 then looks into a Python dictionary without holding the
interpreter's lock where it finds that any thread holds it (its Python, 3.11, tells no thread from another there), and
crashes within a few such operators if one runs all the time.
"""

from __future__ import annotations

import threading
import time

COMES_TO_REST = 0.02
"""Seconds between a thread's word that it will stand still and when it does: it still has to wait for its turn."""


class Standing:
    """Asked for by Blender's side, done by the thread."""

    def __init__(self):
        self._from = float("inf")
        self._asked, self._stands, self._go = False, threading.Semaphore(0), threading.Semaphore(0)

    def ask(self) -> bool:
        """Have the thread stand still, and say whether it does yet: ask until it does, then let it `go`."""
        self._asked = True
        if self._stands.acquire(blocking=False):
            self._from = time.monotonic() + COMES_TO_REST
        return time.monotonic() > self._from

    def go(self) -> None:
        """Let the thread go on that stands."""
        self._asked, self._from = False, float("inf")
        self._go.release()

    def stand_if_asked(self) -> None:
        """In the thread: stand still until it may go on."""
        if self._asked:
            self._stands.release()
            self._go.acquire()
