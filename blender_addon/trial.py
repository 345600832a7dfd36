"""Trying whether a remote engine can be reached, in a thread without bpy."""

from __future__ import annotations

import threading

from .places import Remote
from .protocol.connection import Connection
from .protocol.errors import ProtocolError
from .protocol.messages import Welcome
from .trouble import Trouble

PATIENCE = 10.0
"""Seconds that the engine may take to answer."""
SENTENCES = {
    "wrong-key": "Wrong key: {what}",
    "not-allowed": "Not allowed: {what}",
    "no-engine": "Unreachable: {what}",
    "time-out": "Unreachable: {what}",
    "version-mismatch": "Other version: {what}",
}


class Trial:
    """One try, running from the moment it is made; in the end there is a `welcome` or a `trouble`."""

    def __init__(self, place: Remote):
        self.running = True
        self.welcome: Welcome | None = None
        self.trouble: Trouble | None = None
        self._place = place
        self._thread = threading.Thread(target=self._run, name="FateZero trial", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when it has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with Connection(self._place.endpoint(), client="Blender (test)") as connection:
                self.welcome = connection.hello(PATIENCE)
        except ProtocolError as error:
            sentence = SENTENCES.get(error.code, "{what}")
            self.trouble = Trouble(sentence, "{way_out}", what=error.sentence, way_out=error.remedy)
        finally:
            self.running = False


current: Trial | None = None
"""The newest one, until the engine is chosen anew."""


def start(place: Remote) -> Trial:
    """Begin to try."""
    global current
    current = Trial(place)
    return current
