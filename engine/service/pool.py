"""Where workers are: an engine's jobs know places, each of which has one worker at a time, and not what is behind them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from .home import Home
from .workers import FromWorker, Worker, WorkerOptions


class AnyWorker(Protocol):
    """A worker at a place. What it says is handed to the pool's `post`; none of this blocks, but `end` for a moment."""

    name: str
    """Its own alone; what it leaves half written has this in its name."""
    pid: int | str
    """The process, as the log tells of it."""

    def send(self, message) -> None:
        """Tell the worker something (`pipes`)."""

    def memory(self) -> int:
        """Bytes that it takes of this computer's memory."""

    def kill(self) -> None:
        """End it at once, whatever it does; a `FromWorker` without a message follows."""

    def end(self) -> int | None:
        """End it and return its exit code (negative: the signal that ended it); None: the machine it was on is lost."""


class Pool(Protocol):
    """Workers at places. Places may come and go; what was at one that is gone says so as any worker that ends."""

    memory_share: float
    """Of a device's free memory, what one worker may plan with."""

    @property
    def places(self) -> Sequence[str]:
        """Where a worker can be now."""

    @property
    def trouble(self) -> str:
        """Why there is no place, a sentence for the user; empty where there are some."""

    def start(self, place: str) -> AnyWorker:
        """A worker at that place; OSError where none can be started."""

    def close(self) -> None:
        """Give up whatever is behind it; its workers have been ended."""


class LocalPool:
    """Processes on this machine: one or several on each of the devices."""

    def __init__(self, home: Home, options: WorkerOptions, post: Callable[[FromWorker], None]):
        self._home, self._post, each = home, post, options.each
        self.trouble = ""
        self._devices = {
            f"{device} #{number}" if each > 1 else device: device
            for device in options.devices
            for number in range(1, each + 1)
        }
        self.memory_share = 1 / each
        self.places = tuple(self._devices)
        if options.threads is None and len(self.places) > 1:
            self._threads = max(1, (os.cpu_count() or 1) // len(self.places))  # else each would take all cores
        else:
            self._threads = options.threads

    def start(self, place: str) -> Worker:
        """A worker process on the place's device."""
        try:
            with self._home.worker_log() as log:
                worker = Worker(
                    self._home.files, log, uuid.uuid4().hex[:8], self._devices[place], self._threads, self._post
                )
        except OSError as error:
            self.trouble = f"No worker can be started ({error.strerror}); jobs wait until one can be."
            raise
        self.trouble = ""
        return worker

    def close(self) -> None:
        """Nothing is left once the workers are ended."""
