"""How fast 1080p frames go through the wire: by the real gateway under CURVE, by plain sockets, next to a memcpy.

Both sides are processes of their own, and send chunks under the protocol's credit. Frames are bytes in memory: hashing
and disks are not measured here, but by the rows named 'job', which are a client's submit and fetch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import zmq

from benchmarks.service.kills import ended_with
from benchmarks.service.stage import Stage
from engine.service.accounts import LOCAL, Accounts
from engine.service.desk import Answer, Request
from engine.service.gateway import Gateway
from engine.service.journal import Journal
from engine.service.pipes import Work
from engine.service.store import Store
from protocol import limits, messages, wire
from protocol.keys import KeyPair
from tests.service.harness import PATIENCE, REPOSITORY, finished

RAW_BYTES = 1920 * 1080 * 3
PNG_BYTES = 2_000_000
"""Of a typical picture; these are random bytes, as nothing looks into them."""
SIZES = {"raw": RAW_BYTES, "png": PNG_BYTES}
BLOBS = {"raw": "ab" * 32, "png": "cd" * 32}


def answer_to(message: messages.Message, held: dict[str, bytes]) -> Answer:
    """What a server with these bytes in memory answers."""
    match message:
        case messages.Upload(blob=blob, offset=offset, size=size):
            received = min(size, offset + limits.CHUNK_BYTES)
            return Answer(b"", messages.Stored(request=message.request, blob=blob, received=received))
        case messages.Read(blob=blob, offset=offset):
            data = held[blob]
            piece = messages.Piece(request=message.request, blob=blob, size=len(data), offset=offset)
            return Answer(b"", piece, (data[offset : offset + limits.CHUNK_BYTES],))
        case _:
            return Answer(b"", messages.Noted(request=message.request))


def serve(encrypted: bool) -> None:
    """Answer one client until stdin ends: by the real gateway, or by a ROUTER without CURVE."""
    held = {blob: os.urandom(SIZES[frame]) for frame, blob in BLOBS.items()}
    if not encrypted:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            router.sndhwm = router.rcvhwm = limits.MAX_MESSAGES_WAITING
            print(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}", flush=True)
            while True:
                client, *frames = router.recv_multipart(copy=False)
                packet = wire.unpack([frame.buffer for frame in frames], sender="client")
                answer = answer_to(packet.message, held)
                router.send_multipart([client.bytes, *wire.pack(answer.message, *answer.buffers)])
    client = KeyPair.make()
    server = KeyPair.make()
    with tempfile.TemporaryDirectory(prefix="fatezero-wire-") as folder:

        def met(request: Request) -> None:
            answer = answer_to(request.packet.message, held)
            gateway.send(Answer(request.client, answer.message, answer.buffers))

        gateway = Gateway(Accounts(Path(folder), client.public), server, None, met)
        print(gateway.addresses[0], server.public, client.public, client.secret, flush=True)
        poller = zmq.Poller()
        for socket in gateway.sockets:
            poller.register(socket, zmq.POLLIN)
        while True:
            poller.poll()
            gateway.serve()


@contextmanager
def connected(encrypted: bool) -> Iterator[zmq.Socket]:
    """A socket to such a server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.service.wires", "curve" if encrypted else "plain"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            address, *found = process.stdout.readline().split()
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.sndhwm = socket.rcvhwm = limits.MAX_MESSAGES_WAITING
                if encrypted:
                    socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = map(str.encode, found)
                socket.connect(address)
                yield socket
        finally:
            process.kill()


def chunks(blob: str, data: bytes, upload: bool) -> Iterator[tuple[messages.Message, list[memoryview]]]:
    """The requests of one frame's transfer, but for their numbers."""
    view = memoryview(data)
    for offset in range(0, len(data), limits.CHUNK_BYTES):
        if upload:
            message = messages.Upload(blob=blob, size=len(data), offset=offset)
            yield message, [view[offset : offset + limits.CHUNK_BYTES]]
        else:
            yield messages.Read(blob=blob, offset=offset), []


def transfer(socket: zmq.Socket, blob: str, data: bytes, upload: bool, seconds: float) -> float:
    """Send or fetch the same frame again and again for so long, under the protocol's credit; frames per second."""
    began, frames, waiting = time.monotonic(), 0, 0

    def requests() -> Iterator[tuple[messages.Message, list[memoryview]]]:
        nonlocal frames
        while time.monotonic() - began < seconds:
            yield from chunks(blob, data, upload)
            frames += 1

    todo = enumerate(requests(), start=1)
    while True:
        while waiting < limits.TRANSFER_WINDOW and (request := next(todo, None)) is not None:
            number, (message, buffers) = request
            socket.send_multipart(wire.pack(msgspec.structs.replace(message, request=number), *buffers))
            waiting += 1
        if not waiting:
            break
        assert socket.poll(PATIENCE * 1000), "no answer"
        answer = wire.unpack([part.buffer for part in socket.recv_multipart(copy=False)], sender="engine").message
        assert isinstance(answer, messages.Stored if upload else messages.Piece), answer
        waiting -= 1
    return frames / (time.monotonic() - began)


def memcpy(data: bytes, seconds: float) -> float:
    """Frames per second of copying from memory to memory."""
    source = np.frombuffer(data, np.uint8)
    target, count, began = np.empty_like(source), 0, time.monotonic()
    while time.monotonic() - began < seconds:
        np.copyto(target, source)
        count += 1
    return count / (time.monotonic() - began)


def throughput(folder: Path, seconds: float, say: Callable[[str], None]) -> list[dict[str, object]]:
    """One row for each path, frame and direction; each is measured for so long."""
    rows: list[dict[str, object]] = []

    def row(path: str, frame: str, direction: str, per_second: float) -> None:
        rate = round(per_second * SIZES[frame] / 1e6)
        rows.append(
            dict(
                path=path, frame=frame, direction=direction, frames_per_second=round(per_second, 1), mb_per_second=rate
            )
        )
        say(f"{path}, {frame}, {direction}: {per_second:.1f} frames/s, {rate} MB/s")

    held = {frame: os.urandom(size) for frame, size in SIZES.items()}
    for frame, data in held.items():
        row("memcpy", frame, "copy", memcpy(data, seconds))
    for path, encrypted in (("plain", False), ("curve", True)):
        with connected(encrypted) as socket:
            for frame, data in held.items():
                for direction in ("upload", "fetch"):
                    rate = transfer(socket, BLOBS[frame], data, direction == "upload", seconds)
                    row(path, frame, direction, rate)
    for direction, per_second in _job(folder, max(4, round(4 * seconds))).items():
        row("job", "png", direction, per_second)
    return rows


def _job(folder: Path, count: int) -> dict[str, float]:
    """Frames per second of a client's `submit` and `fetch`, with their hashing and both sides' disk."""
    stage, source = Stage(folder), np.random.default_rng(0)
    paths = [folder / f"{number:05}.bin" for number in range(count)]
    for path in paths:
        path.write_bytes(source.bytes(PNG_BYTES))
    store = Store(stage.home)
    results = [store.put(LOCAL, source.bytes(PNG_BYTES)) for _ in range(count)]
    with closing(Journal(stage.home / "journal.sqlite3")) as journal:
        journal.add(Work(job_id="done", settings=stage.settings(), frames=results, fps=24.0))
        journal.set(LOCAL, messages.JobStatus(job_id="done", state="done", frames=results))
    with ended_with(stage.start()) as engine, engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        began = time.monotonic()
        connection.submit("job", stage.settings(), paths)
        sent = time.monotonic()
        finished(connection, "job")  # as failed: these are no pictures
        fetching = time.monotonic()
        connection.fetch("done", folder / "fetched")
        return {"upload": count / (sent - began), "fetch": count / (time.monotonic() - fetching)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The server of `throughput`, until it is killed.")
    parser.add_argument("how", choices=["plain", "curve"])
    serve(parser.parse_args().how == "curve")
