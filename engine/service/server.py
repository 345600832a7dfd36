"""The server process: a door for clients, a desk that does what they ask, and a worker that edits. Never torch."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import psutil
import zmq

import engine
from engine.errors import EditError
from protocol import endpoint
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolError
from protocol.keys import KeyPair, load_or_make
from protocol.messages import Ends, JobStatus

from . import accounts, logs
from .accounts import Accounts
from .desk import Announcement, Answer, Desk
from .dispatch import Dispatch
from .gateway import Gateway
from .giving_way import TURN, GivingWay
from .home import Home
from .inbox import Inbox
from .jobs import Jobs
from .journal import Journal
from .pool import LocalPool
from .previews import Hint, Previews
from .ray_pool import RayPool
from .retention import DEFAULT_QUOTA, Retention
from .shares import Shares
from .store import Store, cannot_store
from .table import Table
from .turns import Turns
from .workers import STEP_LIMIT, FromWorker, WorkerOptions

TICK = 1.0
"""Seconds after which the server looks round where nothing has happened."""
ALONE_SECONDS = 3.0
"""For which nobody must be connected before a local engine counts as left alone: a client may be about to come back."""
MAX_GROWTH_BYTES = 1024 * 1024 * 1024
"""That the server's memory may grow by. libzmq gathers all parts of a message, however many a client that is allowed
in goes on sending; beyond this, all connections are cut, which frees them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """How an engine serves."""

    worker: WorkerOptions
    listen: str | None = None
    """`HOST:PORT` for other machines; None: only this one."""
    ray: str | None = None
    """Address of the Ray cluster whose workers it uses; None: its own on this machine."""
    quota: int = DEFAULT_QUOTA * 10**9
    """Bytes that it keeps."""
    when_alone: Ends = "never"
    tuning_turn: float = TURN
    """Seconds for which a tuning keeps its worker while other jobs wait."""
    parent: bool = False
    """Whether the end of stdin tells that the program which started this one is gone."""


class Server:
    """One engine on a locked home: bound and reachable from the moment it is made, until `close`."""

    def __init__(self, home: Home, options: ServerOptions, inbox: Inbox):
        self._home, self._options, self._inbox = home, options, inbox
        self._stopping = False
        self._ends: Ends = options.when_alone
        self._has_parent = options.parent
        self._company_at = time.monotonic()
        client = KeyPair.make()
        with contextlib.ExitStack() as undo:
            known = Accounts(home.path, client.public)
            if options.listen and not _loopback(options.listen) and known.count < 2:
                raise EditError(
                    "no-clients", f"Nobody would be let in at {options.listen}: no client's key is known here.",
                    "Add one first, with `python -m engine keys add NAME KEY`.",
                )  # fmt: skip
            store = Store(home.files)
            store.sweep()
            store.adopt()
            undo.callback(store.close)
            journal = Journal(home.journal)
            undo.callback(journal.close)
            retention = Retention(home.files, journal, store, known, options.quota)
            workers = options.worker
            if options.ray:
                pool = RayPool(home, workers, options.ray, inbox.post)
            else:
                pool = LocalPool(home, workers, inbox.post)
            shares = Shares(home.path)
            turns = Turns(shares.share, shares.most)
            previews = Previews(inbox.post)
            giving_way = GivingWay(turns, options.tuning_turn)
            table = Table(journal, pool, giving_way, self._announce)
            dispatch = Dispatch(
                home.files, table, journal, store, retention, pool, turns, giving_way, previews.show, workers.step_limit
            )  # fmt: skip
            jobs = Jobs(home.files, table, dispatch, journal, store, retention)
            self._desk = Desk(
                home.files, jobs, dispatch, store, retention, previews, ", ".join(workers.devices), inbox.post, self.stop,
                self._set_lifetime,
            )  # fmt: skip
            server_key = load_or_make(home.path / accounts.SERVER_KEY_NAME)
            self._gateway = Gateway(known, server_key, options.listen, self._desk.post, held=lambda: self._desk.held)
            undo.callback(self._gateway.close)
            self.listens = self._gateway.addresses[1]
            """Where other machines reach it; None: nowhere."""
            self.endpoint = Endpoint(
                address=self._gateway.addresses[0],
                server_key=server_key.public,
                client_key=client.public,
                client_secret=client.secret,
                pid=os.getpid(),
                engine=engine.__version__,
            )
            self._memory = _memory(0)
            thread = threading.Thread(target=self._desk.run, name="desk")
            thread.start()
            undo.callback(thread.join)
            undo.callback(self._desk.post, None)
            undo.callback(endpoint.remove, home.path)
            endpoint.write(home.path, self.endpoint)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Take the endpoint file away, end the desk and the worker, close the sockets."""
        self._undo.close()

    def stop(self, *_) -> None:
        """Make `run` return; from any thread or signal handler."""
        self._stopping = True
        self._inbox.post(None)

    def parent_gone(self) -> None:
        """The program that started this one has ended; from any thread."""
        self._has_parent = False
        self._inbox.post(None)

    def run(self) -> None:
        """Serve until `stop`, or until nobody needs this engine any more."""
        poller = zmq.Poller()
        poller.register(self._inbox.reader, zmq.POLLIN)
        served: tuple[zmq.Socket, ...] = ()
        looked = 0.0
        while not (self._stopping and not self._inbox.waiting):
            if served != self._gateway.sockets:
                for socket in served:
                    poller.unregister(socket)
                served = self._gateway.sockets
                for socket in served:
                    poller.register(socket, zmq.POLLIN)
            poller.poll(TICK * 1000)
            self._gateway.serve()
            for item in self._inbox.drain():
                if isinstance(item, FromWorker):
                    self._desk.post(item)
                elif isinstance(item, (Answer, Announcement, Hint)):
                    self._gateway.send(item)
            if time.monotonic() - looked > TICK:
                looked = time.monotonic()
                self._look_round()

    def _look_round(self) -> None:
        now = time.monotonic()
        if self._gateway.company or self._has_parent:
            self._company_at = now
        alone = now - self._company_at > ALONE_SECONDS
        if alone and (self._ends == "at-once" or (self._ends == "after-queue" and self._desk.idle)):
            log.info("nobody is connected any more: the engine ends", extra={"when_alone": self._ends})
            self.stop()
        if _memory(self._memory) - self._memory > MAX_GROWTH_BYTES:
            log.error("the server's memory grew beyond its limit: all connections are cut")
            self._gateway.reset()
            self._memory = _memory(self._memory)

    def _set_lifetime(self, ends: Ends) -> None:
        self._ends = ends

    def _announce(self, owner: str, status: JobStatus) -> None:
        self._inbox.post(Announcement(owner, status))


def _memory(unknown: int) -> int:
    """Bytes of memory that this process takes, or `unknown` while it has no descriptor left to look at that."""
    try:
        return psutil.Process().memory_info().rss
    except (OSError, psutil.Error):
        return unknown


def _loopback(address: str) -> bool:
    """Whether `HOST:PORT` can be reached from this machine only."""
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def _watch_parent(gone: Callable[[], None]) -> None:
    """Call `gone` when stdin ends, as it does when the process that started this one is gone, however it went."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    gone()


def _devices(text: str) -> tuple[str, ...]:
    """Names of devices. Whether they are there the workers find out: the server does not load what would know."""
    names = tuple(text.split(","))
    for name in names:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
            raise argparse.ArgumentTypeError(f"there is no device '{name}'; name cuda, cuda:1, mps, cpu or auto")
    return names


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line of `serve`."""
    parser = argparse.ArgumentParser(prog="python -m engine serve", description="Serve edits to Blender.")
    parser.add_argument("--home", type=Path, default=endpoint.default_home(), help="folder for its files (%(default)s)")
    parser.add_argument(
        "--device", "--devices", type=_devices, default=("auto",), metavar="NAME[,NAME...]",
        help="cuda, mps, cpu or auto (auto); of several, such as cuda:0,cuda:1, each gets its workers",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="on each device (%(default)s)")
    parser.add_argument("--pool", choices=("local", "ray"), default="local", help="where workers are (%(default)s)")
    parser.add_argument(
        "--address", default="auto", metavar="HOST:PORT", help="of the Ray cluster's head (%(default)s)"
    )
    parser.add_argument(
        "--shared", type=Path, metavar="FOLDER",
        help="for frames, results and checkpoints, where workers on other machines see them too (the home)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="CPU threads of each worker (all cores, shared between them)")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="also serve other machines, whose keys were added with `keys add`"
    )
    parser.add_argument(
        "--quota", type=float, default=DEFAULT_QUOTA, metavar="GB",
        help="frames, results, caches and jobs' states that are kept (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--step-limit", type=float, default=STEP_LIMIT, metavar="SECONDS",
        help="after which a worker that says nothing is replaced (%(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--tuning-turn", type=float, default=TURN, metavar="SECONDS",
        help="for which a tuning keeps its worker while other jobs wait (%(default)g)",
    )  # fmt: skip
    parser.add_argument("--exit-with-parent", action="store_true", help="stdin tells whether this one's parent lives")
    parser.add_argument(
        "--when-alone", choices=get_args(Ends),
        help="when to end once no program is connected, and the parent is gone (at-once with --exit-with-parent)",
    )  # fmt: skip
    parser.add_argument("--log-prompts", action="store_true", help="let the log say what jobs ask for")
    return parser.parse_args(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal, a `Shutdown` message or being left alone; returns the exit code (1: it cannot serve)."""
    options = options_of(argv)
    os.umask(0o077)  # prompts and frames are the user's alone
    with contextlib.ExitStack() as undo:
        try:
            home = Home(options.home.absolute(), options.shared and options.shared.absolute())
            undo.callback(home.close)
            undo.callback(logging.shutdown)
            logging.raiseExceptions = False  # a log that cannot be written must not end the engine
            level = logging.DEBUG if options.log_prompts else logging.INFO
            logging.basicConfig(level=level, handlers=[logs.rotating(home.log)], force=True)
            inbox = Inbox()
            undo.callback(inbox.close)
            server = Server(
                home,
                ServerOptions(
                    worker=WorkerOptions(options.device, options.workers, options.threads, options.step_limit),
                    listen=options.listen,
                    ray=options.address if options.pool == "ray" else None,
                    quota=round(options.quota * 10**9),
                    tuning_turn=options.tuning_turn,
                    when_alone=options.when_alone or ("at-once" if options.exit_with_parent else "never"),
                    parent=options.exit_with_parent,
                ),
                inbox,
            )
        except (EditError, ProtocolError) as error:
            print(error, file=sys.stderr)
            return 1
        except OSError as error:
            print(cannot_store(error), file=sys.stderr)
            return 1
        undo.callback(server.close)
        signal.set_wakeup_fd(inbox.writer.fileno(), warn_on_full_buffer=False)
        undo.callback(signal.set_wakeup_fd, -1)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.stop)
        if options.exit_with_parent:
            threading.Thread(target=_watch_parent, args=[server.parent_gone], daemon=True).start()
        log.info("engine ready", extra={"version": engine.__version__, "listen": server.listens, "pid": os.getpid()})
        print(f"Engine {engine.__version__} is ready at {server.listens or server.endpoint.address}.", flush=True)
        try:
            server.run()
        except Exception:
            log.exception("the server failed")  # whoever started it may not keep its stderr
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
