"""The one module that speaks Ray: a process between the engine's server and a cluster.

It keeps one small actor for each worker that the cluster has room for, a GPU each or so many CPU cores. Ray chooses the
machine and tells of those that come and go; the actor starts the engine's own worker process beside it and passes on
what is said. Messages alone travel: frames, results and checkpoints are files of the folder that all machines share.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path
from typing import BinaryIO

os.environ.setdefault("RAY_AUTH_MODE", "token")  # a cluster that anybody may use runs anybody's code
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "15")  # then the head is lost, and the server is told

import engine
from engine.service import pipes
from engine.service.ray_pool import SAID_WHY, End, Ended, Places, Said, decode, files_here, name_at
from engine.service.workers import FromWorker, Worker

LOOK_EVERY = 1.0
"""Seconds between two looks at what the cluster has."""
HOLD = 1.0
"""Seconds that an actor holds a question for news, before it says that there is none."""
CANNOT_START = 126
"""The exit code of a worker that could not be started, as shells have it."""
NEWS = "news"
"""The threads of an actor that hold questions; what it is told goes through another one, in order."""


class Host:
    """The actor: one worker process on the machine that Ray has chosen."""

    def __init__(self, files: Path, name: str, device: str, threads: int | None):
        self._files, self._name, self._device, self._threads = files_here(files), name, device, threads
        self._news: queue.SimpleQueue[FromWorker | None] = queue.SimpleQueue()
        """What the worker says; None where none can be started."""
        self._worker: Worker | None = None

    def who(self) -> tuple[str, str, str]:
        """The machine's name, the engine's version there, and what is wrong with its view of the shared folder."""
        missing = "" if (self._files / "blobs").is_dir() else f"there is no engine's folder at {self._files}"
        return socket.gethostname(), engine.__version__, missing

    def send(self, message: bytes) -> None:
        """Tell the worker something; it is started by the first words."""
        try:
            self._worker = self._worker or self._started()
        except OSError:
            traceback.print_exc()
            self._news.put(None)
        else:
            self._worker.send(pipes.decode(message))

    def news(self) -> list[bytes | int]:
        """What the worker has said since, held back for a moment where that is nothing; at last its exit code."""
        found: list[bytes | int] = []
        with contextlib.suppress(queue.Empty):
            received = self._news.get(timeout=HOLD)
            while True:
                found.append(self._words_of(received))
                received = self._news.get_nowait()
        return found

    def _started(self) -> Worker:
        with open(self._files / "logs" / f"worker-{socket.gethostname()}.log", "ab") as log:
            return Worker(self._files, log, self._name, self._device, self._threads, self._news.put)

    def _words_of(self, received: FromWorker | None) -> bytes | int:
        if received is None:
            return CANNOT_START
        return self._worker.end() if received.message is None else pipes.encode(received.message)


class Bridge:
    """Actors on the cluster, told and heard by the server's pipes."""

    def __init__(self, ray, options: argparse.Namespace, incoming: BinaryIO, outgoing: BinaryIO):
        self._ray, self._options, self._incoming, self._outgoing = ray, options, incoming, outgoing
        self._actors: dict[str, object] = {}
        """By their names, until they are known to be gone."""
        self._questions: dict[object, str] = {}
        """What was asked of actors, by the reference that will be the answer."""
        self._places: dict[str, str] = {}
        """Of actors that are up, by their names."""
        self._told: Places | None = None
        self._trouble = ""

    def run(self) -> None:
        """Until the server is gone; Ray ends this process itself when the cluster is lost."""
        threading.Thread(target=self._listen, daemon=True).start()
        looked = 0.0
        while True:
            if time.monotonic() - looked > LOOK_EVERY:
                looked = time.monotonic()
                self._look_round()
            if not self._questions:
                time.sleep(LOOK_EVERY)
                continue
            answered, _ = self._ray.wait(list(self._questions), timeout=LOOK_EVERY)
            for reference in answered:
                self._take(self._questions.pop(reference), reference)

    def _listen(self) -> None:
        """What the server says. When it is gone, so is this process, and with it the actors and their workers."""
        try:
            while (words := pipes.read(self._incoming, decode)) is not None:
                name = name_at(words.place)
                actor = self._actors.get(name)
                if actor and isinstance(words, Said):
                    actor.send.remote(words.message)
                elif actor and isinstance(words, End):
                    self._ray.kill(actor)  # its question fails then, and it is forgotten
        finally:
            os._exit(0)

    def _look_round(self) -> None:
        """As many actors as the cluster has room for, and word of the places that there are."""
        has, options = self._ray.cluster_resources(), self._options
        gpus = int(has.get("GPU", 0)) if options.device.startswith(("auto", "cuda")) else 0
        threads = options.threads or 1
        room = gpus * options.each or int(has.get("CPU", 0) // threads)
        needs = {"num_gpus": 1 / options.each, "num_cpus": 0} if gpus else {"num_cpus": threads}
        for _ in range(room - len(self._actors)):
            name = uuid.uuid4().hex[:8]
            host = self._ray.remote(concurrency_groups={NEWS: 1})(Host)
            host = host.options(max_restarts=0, scheduling_strategy="SPREAD", **needs)
            actor = host.remote(options.files, name, options.device, options.threads or (None if gpus else 1))
            self._actors[name] = actor
            self._questions[actor.who.remote()] = name
        trouble = ""
        if not self._places:
            trouble = self._trouble or "No machine of the Ray cluster has a worker yet."
        self._tell(Places(names=list(self._places.values()), trouble=trouble))

    def _take(self, name: str, reference) -> None:
        """The answer of an actor."""
        actor = self._actors[name]
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.RayError:
            self._gone(name, None)
            return
        if isinstance(answer, tuple) and not self._welcome(name, *answer):
            return
        for news in answer if isinstance(answer, list) else ():
            if isinstance(news, int):
                self._gone(name, news)
                return
            pipes.write(self._outgoing, Said(place=self._places[name], message=news))
        self._questions[actor.news.options(concurrency_group=NEWS).remote()] = name

    def _welcome(self, host_of: str, host: str, version: str, missing: str) -> bool:
        """An actor is up: a place, if its machine can do the work. One that cannot stays where it is, unused."""
        if version != engine.__version__:
            missing = f"it has version {version} of the engine, this one is {engine.__version__}"
        if missing:
            self._trouble = f"The machine {host} cannot work: {missing}."
            return False
        self._places[host_of] = f"{host} {host_of}"
        self._look_round()
        return True

    def _gone(self, name: str, code: int | None) -> None:
        with contextlib.suppress(Exception):  # it is gone already, or its machine is
            self._ray.kill(self._actors[name])
        del self._actors[name]
        if place := self._places.pop(name, None):
            self._write(Ended(place=place, code=code))

    def _tell(self, places: Places) -> None:
        if places != self._told:
            self._told = places
            self._write(places)

    def _write(self, words) -> None:
        pipes.write(self._outgoing, words)


def main(argv: list[str] | None = None) -> int:
    """Be a bridge: words on stdin and stdout, all that Ray prints on stderr."""
    parser = argparse.ArgumentParser(prog="engine.service.ray_bridge", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--each", type=int, default=1)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        import ray
    except ImportError:
        trouble = "Ray is not installed here. Install the engine with its extra 'ray'."
        pipes.write(outgoing, Places(names=[], trouble=trouble))
        return SAID_WHY
    try:
        ray.init(address=options.address, log_to_driver=False, namespace="fatezero")
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
        trouble = f"The Ray cluster at {options.address} cannot be joined ({reason})."
        pipes.write(outgoing, Places(names=[], trouble=trouble))
        return SAID_WHY
    Bridge(ray, options, incoming, outgoing).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
