"""The connection to an engine, and the engine's process where that was started from here. Without bpy."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from . import engine_process
from .engine_process import EngineProcess
from .places import Local, Place
from .protocol.connection import Connection
from .protocol.endpoint import Endpoint, process_runs
from .protocol.errors import ProtocolError
from .protocol.messages import Welcome
from .trouble import Trouble, as_is

START_PATIENCE = 120.0
"""Seconds that an engine may take to listen; the first start compiles a lot on a slow disk."""
HELLO_PATIENCE, HELLO_TRY = 30.0, 1.0
"""Seconds that a listening engine may take to answer, which it does at once unless the machine is loaded; and seconds
after which we look whether the answer is still wanted."""
STOP_PATIENCE = 12.0
"""Seconds that an engine may take to put its work aside and end."""
MAKES_WAY = 1.0 if sys.platform == "win32" else 30.0
"""Seconds in which an engine of ours ends that another Blender's was faster than. On Windows its process may be the
engine's parent, as a virtual environment's Python is there, and then it goes on."""
HELD_OFF_PAUSE = 0.3
"""Seconds until an engine is started again that found another one in its home, which has no endpoint (yet, or still)."""
HELD_EVERY = 4.0
"""Seconds between two questions for the engine's memory."""

ABSENT = {"no-engine", "connection-lost", "time-out", "too-many-connections"}
"""Errors of a connection that time may mend."""
_LOST = ABSENT | {"wrong-key", "not-allowed", "endpoint-damaged", "malformed", "version-mismatch"}


def breaks(error: ProtocolError) -> bool:
    """Whether a connection is of no more use after the error. A request that the engine calls malformed is only refused."""
    return error.code in _LOST and not (error.code == "malformed" and error.refused)


class Link:
    """The way to the engine at `place`, as often as it breaks. For one thread."""

    def __init__(self, place: Place):
        self.place = place
        self.process: EngineProcess | None = None
        """The local engine, where this Blender has started it."""
        self.connection: Connection | None = None
        self._aside: Connection | None = None
        self._go_on: Callable[[], None] = lambda: None
        self.welcome: Welcome | None = None
        self._since = self._next_held = 0.0
        self._stale: Endpoint | None = None

    @property
    def age(self) -> float:
        """Seconds since it was last connected."""
        return time.monotonic() - self._since

    def connect(self, still_wanted: Callable[[], None]) -> None:
        """Connect, starting a local engine if none runs; `still_wanted` is called now and then, and may raise.

        `Trouble` where no engine can be started, `ProtocolError` where one does not answer or lets nobody in.
        """
        endpoint = self._local(self.place, still_wanted) if isinstance(self.place, Local) else self.place.endpoint()
        connection = Connection(endpoint, client="Blender")
        try:
            self.welcome = _hello(connection, still_wanted)
        except BaseException:
            connection.close()
            self._stale = endpoint  # if it is the file of an engine that is gone, another one has to be started
            raise
        self.connection, self._endpoint, self._stale = connection, endpoint, None
        self._since = time.monotonic()

    @contextlib.contextmanager
    def for_transfer(self, meanwhile: Callable[[], None]) -> Iterator[Connection]:
        """A connection for the chunks of one transfer, beside which `meanwhile` is called now and then: what it asks
        over `connection` does not wait behind them. Where the engine takes no more connections, that one itself."""
        second = self._second(meanwhile)
        try:
            yield second or self.connection
        finally:
            if second:
                second.close()

    def aside(self, beside: Callable[[], None], go_on: Callable[[], None]) -> Connection:
        """As `for_transfer`, for what is only a help: beside it all else is done, and `go_on` is asked, which may raise.

        Kept until `end_aside`, as an engine takes so many handshakes at a time.
        """
        self._go_on = go_on
        if self._aside is None:

            def meanwhile() -> None:
                beside()
                self._go_on()

            second = self._second(meanwhile)
            if second is None:
                return self.connection
            second.knows(self.welcome)
            self._aside = second
        return self._aside

    def end_aside(self) -> None:
        """Close that connection, if there is one."""
        if self._aside:
            self._aside.close()
        self._aside = None

    def _second(self, meanwhile: Callable[[], None]) -> Connection | None:
        """Another connection, which is answered; None where the engine takes no more."""
        second = Connection(self._endpoint, client="Blender", meanwhile=meanwhile)
        try:
            second.ping(HELLO_PATIENCE)
        except BaseException as error:
            second.close()
            if isinstance(error, ProtocolError) and error.code == "too-many-connections":
                return None
            raise
        return second

    def check(self) -> None:
        """Notice the end of the engine's process before the connection does; `ProtocolError`."""
        if self.process and not self.process.running():
            raise ProtocolError("connection-lost", "The engine has ended.")

    def say_when_alone(self) -> None:
        """Tell a local engine what shall become of it without us."""
        if isinstance(self.place, Local):
            self.connection.when_alone(self.place.when_alone)

    def held(self) -> tuple[int, int] | None:
        """What the engine's worker holds (see `Connection.held`), where it is time to ask again."""
        if time.monotonic() < self._next_held:
            return None
        self._next_held = time.monotonic() + HELD_EVERY
        return self.connection.held()

    def rest(self) -> None:
        """Have the engine free the memory that its worker holds."""
        self.connection.rest()
        self._next_held = time.monotonic() + 1.0  # it weighs the worker about so often

    def lose(self, error: ProtocolError) -> Trouble:
        """Drop a connection that broke with `error`; the reason in words."""
        was_connected = self.connection is not None
        self._close_connection()
        if self.process and (self.process.wait(2.0) if was_connected else not self.process.running()):
            trouble, self.process = self.process.ended(), None
            return trouble
        return as_is(error.sentence, error.remedy)

    def stop(self) -> None:
        """End the engine if it is a local one, and the connection; returns when both have ended."""
        if self.connection and isinstance(self.place, Local):
            with contextlib.suppress(ProtocolError):  # what does not answer is made to end, if it is ours
                self.connection.shutdown()
                self._await_end()
        self.abandon()

    def abandon(self) -> None:
        """Close the connection, and end the engine if it was started from here."""
        self._close_connection()
        if self.process:
            self.process.end()
            self.process = None

    def close(self) -> None:
        """Let go of everything; a local engine knows what to do then."""
        self._close_connection()
        if self.process:
            self.process.leave()
            self.process = None

    def _close_connection(self) -> None:
        self.end_aside()
        if self.connection:
            self.connection.close()
        self.connection = None

    def _await_end(self) -> None:
        deadline = time.monotonic() + STOP_PATIENCE
        while time.monotonic() < deadline:
            if not (self.process.running() if self.process else process_runs(self._endpoint.pid)):
                return
            time.sleep(0.02)

    def _local(self, place: Local, still_wanted: Callable[[], None]) -> Endpoint:
        """Where an engine listens on this machine: one that runs, or else a new one."""
        found = engine_process.running_endpoint(place.home)
        if found and found != self._stale:
            return found
        if place.python is None:
            raise Trouble(*engine_process.NOT_INSTALLED)
        if self.process:
            self.process.end()  # it runs, and does not answer
        deadline = time.monotonic() + START_PATIENCE
        while True:
            self.process = EngineProcess(place.python, place.home, place.when_alone, self._stale)
            while (endpoint := self.process.endpoint()) is None and self.process.running():
                if time.monotonic() > deadline:
                    raise self._too_slow()
                still_wanted()
                time.sleep(0.05)
            if endpoint:
                if endpoint.pid != self.process.pid and self.process.wait(MAKES_WAY):
                    self.process = None  # it made way for another Blender's
                return endpoint
            if not self.process.held_off():
                raise self._ended()
            still_wanted()
            time.sleep(HELD_OFF_PAUSE)

    def _ended(self) -> Trouble:
        process, self.process = self.process, None
        return process.ended()

    def _too_slow(self) -> Trouble:
        process, self.process = self.process, None
        process.end()
        return Trouble(
            "The engine did not start within {seconds:g} seconds.",
            "Try again; {log} may say what holds it up.",
            seconds=START_PATIENCE,
            log=process.log,
        )


def _hello(connection: Connection, still_wanted: Callable[[], None]) -> Welcome:
    deadline = time.monotonic() + HELLO_PATIENCE
    while True:
        began = time.monotonic()
        try:
            return connection.hello(HELLO_TRY)
        except ProtocolError as error:
            waited = time.monotonic() - began >= HELLO_TRY
            if not waited or error.code not in ("no-engine", "time-out") or time.monotonic() > deadline:
                raise
        still_wanted()
