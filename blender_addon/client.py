"""Talking to the engine, in a thread of its own that never touches bpy.

Blender's side puts commands in and drains `events`; nothing here waits for Blender and Blender waits for nothing here.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import engine_process
from .engine_process import EngineProcess
from .protocol import files
from .protocol.connection import Connection
from .protocol.endpoint import Endpoint
from .protocol.errors import ProtocolError
from .protocol.files import Fetched
from .protocol.messages import JobStatus, Welcome
from .protocol.settings import EditSettings
from .trouble import Trouble, as_is

START_PATIENCE = 120.0
"""Seconds that an engine may take to listen; the first start compiles a lot on a slow disk."""
HELLO_PATIENCE = 30.0
"""Seconds that a listening engine may take to answer: it does at once, unless the machine is loaded."""
STATUS_EVERY = 1.0
"""Seconds between two questions for a job's state; events come sooner, but may be lost."""
LOST = {"no-engine", "connection-lost", "time-out", "wrong-key", "not-allowed", "endpoint-damaged", "malformed"}
"""Errors after which a connection is of no more use."""


@dataclass(frozen=True)
class Order:
    """A job as it is handed over."""

    job_id: str
    settings: EditSettings
    frames: list[Path]
    fps: float


@dataclass(frozen=True)
class EngineChanged:
    """The engine is `off`, `starting` or `ready`; `trouble` says why it is off, if nobody asked for that."""

    state: str
    welcome: Welcome | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Sending:
    """So many of the job's frames are sent."""

    job_id: str
    done: int
    total: int


@dataclass(frozen=True)
class Sent:
    """The engine has the job; `digest` names all of its frames."""

    job_id: str
    digest: str


@dataclass(frozen=True)
class JobChanged:
    """How the job stands with the engine."""

    status: JobStatus


@dataclass(frozen=True)
class Fetching:
    """So many files of the job's result have arrived."""

    job_id: str
    done: int
    total: int


@dataclass(frozen=True)
class Arrived:
    """The job's whole result is on disk."""

    job_id: str
    fetched: Fetched


@dataclass(frozen=True)
class JobLost:
    """The job ended without a result: cancelled, or for the reason given."""

    job_id: str
    trouble: Trouble | None


Event = EngineChanged | Sending | Sent | JobChanged | Fetching | Arrived | JobLost


class _Cancelled(Exception):
    """Raised within a transfer that is no longer wanted."""


@dataclass
class Client:
    """The way to one engine, which is started when it is first needed. Every method returns at once."""

    home: Path
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self):
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._cancelled: set[str] = set()
        self._jobs: set[str] = set()
        self._done: set[str] = set()
        self._process: EngineProcess | None = None
        self._connection: Connection | None = None
        self._next_status = 0.0
        self._thread = threading.Thread(target=self._run, name="FateZero client", daemon=True)
        self._thread.start()

    def start(self, python: Path | None) -> None:
        """Have an engine running and connected; `python` is its interpreter, None if it is not installed."""
        self._commands.put(partial(self._connect, python, self._stop_if_unwanted))

    def submit(self, order: Order, python: Path | None) -> None:
        """Send a job, starting the engine if need be."""
        self._commands.put(partial(self._submit, order, python))

    def cancel(self, job_id: str) -> None:
        """End a job wherever it is; `JobLost` follows."""
        self._cancelled.add(job_id)
        self._commands.put(partial(self._cancel, job_id))

    def fetch(self, job_id: str, folder: Path) -> None:
        """Bring a finished job's result into `folder`."""
        self._commands.put(partial(self._fetch, job_id, folder))

    def stop(self) -> None:
        """End the engine, if it is ours, and the connection."""
        self._stopping.set()
        self._commands.put(self._stop)

    def close(self, patience: float = 10.0) -> None:
        """End everything, and wait for that: for when Blender ends or the add-on is disabled."""
        self._closing.set()
        self._thread.join(patience)

    # From here on everything runs in the thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                command = self._commands.get(timeout=0.05)
            except queue.Empty:
                command = self._watch
            try:
                command()
            except _Cancelled:
                self._drop(None)
            except ProtocolError as error:
                self._drop(as_is(error.sentence, error.remedy))
            except Trouble as trouble:
                self._drop(trouble)
            except Exception as error:  # noqa: BLE001  Blender's side waits for word, whatever happens here
                traceback.print_exc()
                self._drop(Trouble("The add-on failed: {error}.", "Please report this.", error=repr(error)))
        self._drop(None)

    def _stop(self) -> None:
        self._drop(None)
        self._stopping.clear()

    def _connect(self, python: Path | None, still_wanted: Callable[[], None]) -> None:
        if self._connection:
            return
        self.events.put(EngineChanged("starting"))
        endpoint = engine_process.running_endpoint(self.home)
        ours = endpoint is None
        if ours:
            endpoint = self._start(python, still_wanted)
        connection = Connection(endpoint, client="Blender")
        try:
            welcome = connection.hello(HELLO_PATIENCE)
            if ours:
                # What the journal of a fresh engine holds was ordered by a Blender that is gone.
                for status in connection.jobs():
                    if not status.final:
                        connection.cancel(status.job_id)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.events.put(EngineChanged("ready", welcome))

    def _start(self, python: Path | None, still_wanted: Callable[[], None]) -> Endpoint:
        if python is None:
            raise Trouble(*engine_process.NOT_INSTALLED)
        self._process = EngineProcess(python, self.home)
        deadline = time.monotonic() + START_PATIENCE
        while (endpoint := self._process.endpoint()) is None:
            if not self._process.running():
                raise self._process.ended()
            if time.monotonic() > deadline:
                raise Trouble(
                    "The engine did not start within {seconds:g} seconds.",
                    "Try again; {log} may say what holds it up.",
                    seconds=START_PATIENCE,
                    log=self._process.log,
                )
            still_wanted()
            time.sleep(0.05)
        return endpoint

    def _submit(self, order: Order, python: Path | None) -> None:
        self._jobs.add(order.job_id)
        still_wanted = partial(self._stop_if_unwanted, order.job_id)
        with self._job(order.job_id):
            self._connect(python, still_wanted)
            still_wanted()
            status = self._connection.submit(
                order.job_id, order.settings, order.frames, order.fps, partial(self._report, Sending, order.job_id)
            )
            names = "".join(files.digest(path) for path in order.frames)
            self.events.put(Sent(order.job_id, hashlib.sha256(names.encode()).hexdigest()))
            self.events.put(JobChanged(status))

    def _cancel(self, job_id: str) -> None:
        if job_id not in self._jobs:
            return
        with self._job(job_id):
            if self._connection.cancel(job_id).final:
                raise _Cancelled

    def _fetch(self, job_id: str, folder: Path) -> None:
        if job_id not in self._jobs:
            return  # it was lost meanwhile, and that was said
        with self._job(job_id):
            fetched = self._connection.fetch(job_id, folder, partial(self._report, Fetching, job_id))
            self._jobs.discard(job_id)
            self.events.put(Arrived(job_id, fetched))

    def _watch(self) -> None:
        """Pass on what the engine says, and notice if it ends."""
        if self._connection is None:
            return
        if self._process and not self._process.running():
            raise self._process.ended()
        for status in self._connection.events():
            if status.final:
                self._next_status = 0.0  # ask: an event has no blobs
            elif status.job_id in self._jobs:
                self.events.put(JobChanged(status))
        if time.monotonic() >= self._next_status:
            for job_id in self._jobs - self._done:
                self._ask(job_id)
            self._next_status = time.monotonic() + STATUS_EVERY

    def _ask(self, job_id: str) -> None:
        with self._job(job_id):
            status = self._connection.status(job_id)
            if status.state == "failed":
                self._lose(job_id, as_is(status.error.sentence, status.error.remedy))
            elif status.state == "cancelled":
                raise _Cancelled
            else:
                if status.state == "done":
                    self._done.add(job_id)
                self.events.put(JobChanged(status))

    def _report(self, kind: type, job_id: str, done: int, total: int) -> None:
        self._stop_if_unwanted(job_id)
        self.events.put(kind(job_id, done, total))

    def _stop_if_unwanted(self, job_id: str = "") -> None:
        if job_id in self._cancelled or self._stopping.is_set() or self._closing.is_set():
            raise _Cancelled

    @contextlib.contextmanager
    def _job(self, job_id: str) -> Iterator[None]:
        """What goes wrong within belongs to this one job, unless the engine itself is lost."""
        try:
            yield
        except _Cancelled:
            if self._connection is None:
                raise
            self._lose(job_id, None)
        except ProtocolError as error:
            if error.code in LOST or self._connection is None:
                raise
            self._lose(job_id, as_is(error.sentence, error.remedy))

    def _lose(self, job_id: str, trouble: Trouble | None) -> None:
        self._jobs.discard(job_id)
        self.events.put(JobLost(job_id, trouble))

    def _drop(self, trouble: Trouble | None) -> None:
        """Let go of the engine and of all jobs, for that reason or because it was asked for."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection:
            connection.close()
        if process:
            if trouble and connection and _ends(process):
                trouble = process.ended()  # that is why the connection was lost
            process.end()
        for job_id in list(self._jobs):
            self._lose(job_id, trouble)
        self.events.put(EngineChanged("off", trouble=trouble))


def _ends(process: EngineProcess, patience: float = 2.0) -> bool:
    deadline = time.monotonic() + patience
    while process.running() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not process.running()
