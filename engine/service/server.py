"""The server process: answers clients, keeps the journal and the blobs, and has a worker do the edits. Never torch."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import zmq
from zmq.auth.base import Authenticator

import engine
from engine.errors import EditError
from protocol import PROTOCOL_VERSION, endpoint, limits, messages, models, wire
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolError

from .home import LOG_FORMAT, Home
from .inbox import Inbox
from .jobs import Jobs
from .journal import Journal
from .pipes import Work
from .store import Store, cannot_store
from .workers import FromWorker, Worker, WorkerOptions

LOOPBACK = "tcp://127.0.0.1"
ZAP_DOMAIN = "engine"
HANDSHAKE_MILLISECONDS = 5000
LINGER_MILLISECONDS = 500
"""How long the last answers may take to leave when the server ends."""
MESSAGES_AT_A_TIME = 16
"""From clients, before the worker is listened to again."""

log = logging.getLogger(__name__)


class Server:
    """One engine on a locked home: bound and reachable from the moment it is made, until `close`."""

    def __init__(self, home: Home, options: WorkerOptions, inbox: Inbox):
        self._home, self._options, self._inbox = home, options, inbox
        self._stopping = False
        self._clients: dict[bytes, str] = {}
        with contextlib.ExitStack() as undo:
            self._store = Store(home.path)
            self._store.sweep()
            journal = Journal(home.journal)
            undo.callback(journal.close)
            self._jobs = Jobs(journal, self._store, self._start_worker, self._announce)
            undo.callback(self._store.close)
            undo.callback(self._jobs.close)
            self._zap_loop = asyncio.SelectorEventLoop()  # for pyzmq's authenticator, which is written as a coroutine
            undo.callback(self._zap_loop.close)
            self._context = zmq.Context()
            undo.callback(self._context.destroy, linger=LINGER_MILLISECONDS)
            self.endpoint = self._bind()
            undo.callback(endpoint.remove, home.path)
            endpoint.write(home.path, self.endpoint)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Take the endpoint file away, close the sockets, end the worker."""
        self._undo.close()

    def stop(self, *_) -> None:
        """Make `run` return; from any thread or signal handler."""
        self._stopping = True
        self._inbox.post(None)

    def run(self) -> None:
        """Serve until `stop`."""
        poller = zmq.Poller()
        for source in (self._socket, self._authenticator.zap_socket, self._inbox.reader):
            poller.register(source, zmq.POLLIN)
        self._jobs.advance()
        while not self._stopping:
            ready = dict(poller.poll())
            if self._authenticator.zap_socket in ready:
                request = self._authenticator.zap_socket.recv_multipart()
                self._zap_loop.run_until_complete(self._authenticator.handle_zap_message(request))
            if self._socket in ready:
                self._serve()
            for item in self._inbox.drain():
                if isinstance(item, FromWorker):
                    self._jobs.receive(item)
            self._jobs.advance()

    def _bind(self) -> Endpoint:
        """Listen on a free port of this machine, open to one new key pair only."""
        server_key, server_secret = (key.decode() for key in zmq.curve_keypair())
        client_key, client_secret = (key.decode() for key in zmq.curve_keypair())
        self._authenticator = Authenticator(self._context)
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, _AllowedKeys(client_key))
        self._authenticator.start()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.router_mandatory = True
        self._socket.maxmsgsize = limits.MAX_PART_BYTES
        self._socket.sndhwm = self._socket.rcvhwm = limits.MAX_MESSAGES_WAITING
        self._socket.handshake_ivl = HANDSHAKE_MILLISECONDS
        self._socket.zap_domain = ZAP_DOMAIN.encode()
        self._socket.zap_enforce_domain = True  # without an authenticator nobody is let in, instead of everybody
        self._socket.curve_server = True
        self._socket.curve_secretkey = server_secret.encode()
        self._socket.bind(f"{LOOPBACK}:0")
        return Endpoint(
            address=self._socket.last_endpoint.decode().rstrip("\0"),
            server_key=server_key,
            client_key=client_key,
            client_secret=client_secret,
            pid=os.getpid(),
            engine=engine.__version__,
        )

    def _start_worker(self) -> Worker:
        worker = Worker(self._home, self._options, self._inbox.post)
        log.info("worker %d started", worker.pid)
        return worker

    def _serve(self) -> None:
        """Answer what clients have sent, a few messages at most."""
        for _ in range(MESSAGES_AT_A_TIME):
            try:
                client, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._send(client, *self._answer(client, parts))

    def _send(self, client: bytes, message: messages.Message, *buffers: bytes) -> None:
        try:
            self._socket.send_multipart([client, *wire.pack(message, *buffers)], zmq.NOBLOCK)
        except zmq.Again:
            pass  # a client that does not read loses hints, and asks again for answers
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._clients.pop(client, None)

    def _announce(self, status: messages.JobStatus) -> None:
        """Tell every client that said hello how a job stands now."""
        for client in list(self._clients):
            self._send(client, messages.Event(status=status.brief()))

    def _answer(self, client: bytes, parts: list[bytes]) -> tuple:
        """The message, and the buffers, that answer what a client has sent, whatever it was."""
        number = 0
        try:
            packet = wire.unpack(parts, sender="client")
            number = packet.message.request
            message, *buffers = self._met(client, packet)
        except ProtocolError as error:
            log.debug("refused to %s: %s", self._name(client), error)
            message = messages.Refusal(
                code=error.code, sentence=limits.cut(error.sentence), remedy=limits.cut(error.remedy)
            )
            buffers = []
        except Exception as error:  # a fault in one request must not end the others' engine
            log.exception("a request of %s failed", self._name(client))
            message = messages.Refusal(
                code="engine-error",
                sentence=limits.cut(f"The engine failed to answer ({type(error).__name__}: {error})."),
                remedy="Restart the engine, and please report this.",
            )
            buffers = []
        return msgspec.structs.replace(message, request=number), *buffers

    def _met(self, client: bytes, packet: wire.Packet) -> tuple:
        """Do what one request asks; `ProtocolError` where it is refused."""
        match packet.message:
            case messages.Ping():
                return (messages.Pong(),)
            case messages.Hello() as hello:
                return (self._welcome(client, hello),)
            case messages.Submit(job_id=job_id, settings=settings, frames=frames, fps=fps):
                models.resolve(self._home.path, settings.model)
                outcome = self._jobs.submit(Work(job_id=job_id, settings=settings, frames=frames, fps=fps))
                if isinstance(outcome, messages.JobStatus):
                    return (messages.Job(status=outcome),)
                return (messages.Wanted(missing=outcome),)
            case messages.Upload(blob=blob, size=size, offset=offset) if len(packet.buffers) == 1:
                received = self._store.upload(blob, size, offset, packet.buffers[0])
                return (messages.Stored(blob=blob, received=received),)
            case messages.Query(job_id=job_id):
                return (messages.Job(status=self._jobs.status(job_id)),)
            case messages.QueryAll():
                return (messages.Jobs(statuses=self._jobs.newest()),)
            case messages.Cancel(job_id=job_id):
                return (messages.Job(status=self._jobs.cancel(job_id)),)
            case messages.Read(blob=blob, offset=offset):
                chunk, size = self._store.chunk(blob, offset)
                return messages.Piece(blob=blob, size=size, offset=offset), chunk
            case messages.Shutdown():
                self.stop()
                return (messages.Stopping(),)
        raise ProtocolError("malformed", f"{type(packet.message).__name__} is not a request that can be met.")

    def _welcome(self, client: bytes, hello: messages.Hello) -> messages.Welcome:
        if PROTOCOL_VERSION not in hello.versions:
            raise wire.version_mismatch(client=hello.versions, engine=[PROTOCOL_VERSION])
        self._clients.pop(client, None)
        while len(self._clients) >= limits.MAX_CONNECTIONS:
            del self._clients[next(iter(self._clients))]
        self._clients[client] = hello.client
        return messages.Welcome(
            version=PROTOCOL_VERSION,
            engine=engine.__version__,
            device=self._jobs.device or self._options.device,
            models=models.known(self._home.path),
            limits=limits.as_dict(),
        )

    def _name(self, client: bytes) -> str:
        return self._clients.get(client, "a client")


class _AllowedKeys:
    """The client keys that may connect, as pyzmq's authenticator asks for them."""

    def __init__(self, *keys: str):
        self._keys = frozenset(key.encode() for key in keys)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether the client with this public key (Z85) may connect."""
        return key in self._keys


def _watch_parent(stop: Callable[[], None]) -> None:
    """Call `stop` when stdin ends, as it does when the process that started this one is gone, however it went."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal, a `Shutdown` message or the parent's end; returns the exit code (1: it cannot serve)."""
    parser = argparse.ArgumentParser(prog="python -m engine serve", description="Serve edits to Blender.")
    parser.add_argument("--home", type=Path, default=endpoint.default_home(), help="folder for its files (%(default)s)")
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu or auto (%(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of the worker (all cores)")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin ends")
    options = parser.parse_args(argv)
    os.umask(0o077)  # prompts and frames are the user's alone
    with contextlib.ExitStack() as undo:
        try:
            home = Home(options.home.absolute())
            undo.callback(home.close)
            undo.callback(logging.shutdown)
            logging.raiseExceptions = False  # a log that cannot be written must not end the engine
            logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=[home.server_log()], force=True)
            inbox = Inbox()
            undo.callback(inbox.close)
            server = Server(home, WorkerOptions(options.device, options.threads), inbox)
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
            threading.Thread(target=_watch_parent, args=[server.stop], daemon=True).start()
        print(f"Engine {engine.__version__} is ready at {server.endpoint.address}.", flush=True)
        try:
            server.run()
        except Exception:
            log.exception("the server failed")  # whoever started it may not keep its stderr
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
