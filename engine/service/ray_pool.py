"""Workers on the machines of a Ray cluster, as places of a pool.

The server never speaks Ray: a process of its own does (`ray_bridge`), for Ray ends a program whose cluster is lost. When
that happens the pool has no places, says why, and looks for the cluster again until it is back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from . import pipes
from .home import Home
from .workers import FromWorker, WorkerOptions, environment

AGAIN_AFTER = 3.0
"""Seconds after which a cluster that was lost is looked for again."""
SAID_WHY = 3
"""Exit code of a bridge that could not be built, and has told of the trouble."""
END_PATIENCE = 5.0
"""Seconds that the bridge gets to take its leave of the cluster."""

log = logging.getLogger(__name__)


class _Words(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name.lower()):
    pass


class Places(_Words):
    """From the bridge: where workers can be now, and if nowhere, why."""

    names: list[str]
    trouble: str = ""


class Said(_Words):
    """From the bridge: what the worker at a place has said (`pipes`); to it: what it is told."""

    place: str
    message: bytes


class Ended(_Words):
    """From the bridge: the worker at a place has ended with this code; None: its machine is lost."""

    place: str
    code: int | None


class End(_Words):
    """To the bridge: end what is at this place."""

    place: str


decode = msgspec.msgpack.Decoder(Places | Said | Ended | End).decode


class RayWorker:
    """The one worker that a place of a cluster ever has; when it ends, the place is gone."""

    def __init__(self, place: str, say: Callable[[Said | End], None]):
        self.place, self._say = place, say
        self.name, self.pid = name_at(place), place
        self.code: int | None = None

    def send(self, message: pipes.Work | pipes.Stop) -> None:
        """Tell the worker something."""
        self._say(Said(place=self.place, message=pipes.encode(message)))

    def memory(self) -> int:
        """Bytes that it takes of this computer's memory: none, as the cluster's is not this one's to free."""
        return 0

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._say(End(place=self.place))

    def end(self) -> int | None:
        """End it and return its exit code; None where its machine is lost, or nobody knows."""
        self.kill()
        return self.code


class RayPool:
    """The workers of the cluster at `address`; `address` may be `auto`, for the one that this machine is part of."""

    def __init__(self, home: Home, options: WorkerOptions, address: str, post: Callable[[FromWorker], None]):
        self._home, self._options, self._address, self._post = home, options, address, post
        self.memory_share = 1 / options.each
        self.places: tuple[str, ...] = ()
        self.trouble = f"The Ray cluster at {address} has not answered yet."
        self._workers: dict[str, RayWorker] = {}
        self._bridge: subprocess.Popen | None = None
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._tend, name="ray", daemon=True)
        self._thread.start()

    def start(self, place: str) -> RayWorker:
        """The worker at that place; one that is gone meanwhile ends at once."""
        worker = RayWorker(place, self._say)
        with self._lock:
            if place in self.places:
                self._workers[place] = worker
                return worker
        self._post(FromWorker(worker, None))
        return worker

    def close(self) -> None:
        """Take leave of the cluster, which ends what is left there."""
        self._closed.set()
        self._say(None)
        self._thread.join(END_PATIENCE)
        with contextlib.suppress(AttributeError):  # there is none
            self._bridge.kill()

    def _say(self, words: Said | End | None) -> None:
        self._outgoing.put(words)

    def _tend(self) -> None:
        """Keep a bridge to the cluster up."""
        while not self._closed.is_set():
            self._outgoing = queue.SimpleQueue()
            try:
                self._serve()
            except OSError as error:
                self._lose(f"The bridge to Ray cannot be started ({error.strerror}).")
            self._closed.wait(AGAIN_AFTER)

    def _serve(self) -> None:
        """One bridge from its start to its end."""
        options = self._options
        command = [sys.executable, "-P", "-m", "engine.service.ray_bridge", "--address", self._address]
        command += ["--files", str(self._home.files), "--device", options.devices[0], "--each", str(options.each)]
        if options.threads:
            command += ["--threads", str(options.threads)]
        with self._home.worker_log() as stderr:
            self._bridge = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment(options.threads)
            )
        writer = threading.Thread(target=_write, args=[self._bridge.stdin, self._outgoing], daemon=True)
        writer.start()
        try:
            while (words := pipes.read(self._bridge.stdout, decode)) is not None:
                self._take(words)
        except ValueError:
            log.exception("the bridge to Ray talks nonsense")
        self._outgoing.put(None)
        self._bridge.kill()
        code = self._bridge.wait()
        writer.join()
        self._bridge.stdout.close()
        log.warning("bridge to Ray ended", extra={"code": code})
        lost = f"The Ray cluster at {self._address} is lost. Jobs go on when it is back."
        self._lose(self.trouble if code == SAID_WHY else lost)

    def _take(self, words: Places | Said | Ended) -> None:
        """Take in what the bridge says."""
        match words:
            case Places(names=names, trouble=trouble):
                with self._lock:
                    self.places, self.trouble = tuple(names), trouble
            case Said(place=place, message=message) if place in self._workers:
                self._post(FromWorker(self._workers[place], pipes.decode(message)))
            case Ended(place=place, code=code):
                with self._lock:
                    self.places = tuple(name for name in self.places if name != place)
                    worker = self._workers.pop(place, None)
                if worker:
                    worker.code = code
                    self._post(FromWorker(worker, None))

    def _lose(self, trouble: str) -> None:
        with self._lock:
            self.places, self.trouble = (), trouble
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            self._post(FromWorker(worker, None))


def name_at(place: str) -> str:
    """The name of the worker at a place."""
    return place.rpartition(" ")[2]


def _write(pipe: BinaryIO, outgoing: queue.SimpleQueue) -> None:
    with contextlib.suppress(OSError), pipe:  # it is gone: who reads from it says so
        while (words := outgoing.get()) is not None:
            pipes.write(pipe, words)


def files_here(files: Path) -> Path:
    """The engine's shared folder as this machine sees it: another path where `FATEZERO_SHARED` says so."""
    return Path(os.environ.get("FATEZERO_SHARED") or files)
