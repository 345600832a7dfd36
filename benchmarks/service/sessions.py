"""A fuzzer of whole sessions: a client that may connect and says what it likes to a real engine.

Every message is answered, by a named error at worst; the engine's log tells of no failure, and others stay served.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import time

import msgspec

from benchmarks.service.mutation import VALUES, mutate
from benchmarks.service.stage import Stage
from engine.service import accounts
from protocol import endpoint, keys, limits, messages, wire
from protocol.keys import KeyPair
from tests.service.harness import PATIENCE, Engine, Raw

WINDOW = 8
"""Messages that wait for their answers at a time: few enough that a socket's queue has room for them all."""
JOBS = [f"job-{number}" for number in range(6)]
PIECES = [b"", b"x", b"five!", bytes(100), bytes(limits.CHUNK_BYTES), bytes(limits.CHUNK_BYTES + 1)]
BLOBS = [hashlib.sha256(piece).hexdigest() for piece in PIECES] + ["0" * 64]
SIZES = [0, 1, 5, 100, limits.CHUNK_BYTES, limits.MAX_BLOB_BYTES, limits.MAX_BLOB_BYTES + 1, 2**62]


class Babbler:
    """Says requests that make sense, that nearly do, and that do not."""

    def __init__(self, source: random.Random, stage: Stage):
        self._source, self._settings = source, stage.settings(steps=1)
        self._frame = stage.clip(1, seed=99)[0].read_bytes()
        self._frames = [hashlib.sha256(self._frame).hexdigest()]
        self._numbers = 0

    def next(self) -> list[bytes]:
        """The parts of one message."""
        source, self._numbers = self._source, self._numbers + 1
        message, piece = self._request()
        header = bytes(wire.pack(msgspec.structs.replace(message, request=self._numbers))[0])
        if source.random() < 0.3:
            body = mutate(source, header[5:], msgspec.msgpack.decode, msgspec.msgpack.encode)
            header = (header[: source.choice([5, 5, 5, 5, 3])] + body)[: limits.MAX_HEADER_BYTES]  # or the line is cut
        parts = [header] if piece is None else [header, piece]
        if source.random() < 0.03:
            parts += [source.choice(PIECES)] * source.randint(1, 3)
        return parts

    def greeting(self) -> list[bytes]:
        """A client's first message. Whoever is greeted gets events, which may take the place of answers."""
        versions = self._source.choice([[], [1], [7], [2**62], [1] * 65])
        return wire.pack(messages.Hello(request=1, client=self._source.choice(["", "x" * 201]), versions=versions))

    def _request(self) -> tuple[messages.Message, bytes | None]:
        source, job_id, blob = self._source, self._source.choice(JOBS), self._source.choice(BLOBS)
        match source.randrange(11):
            case 0:
                frames = source.choice([self._frames, [blob], [blob] * limits.MAX_FRAMES, [*self._frames, blob]])
                return messages.Submit(job_id=job_id, settings=self._asked(), frames=frames, fps=24.0), None
            case 1:
                name = source.choice([self._frames[0], blob])
                return messages.Upload(blob=name, size=len(self._frame), offset=0), self._frame
            case 2 | 3:
                upload = messages.Upload(blob=blob, size=source.choice(SIZES), offset=source.choice(SIZES))
                return upload, source.choice([None, *PIECES])
            case 4 | 5:
                return messages.Read(blob=source.choice([blob, *self._frames]), offset=source.choice(SIZES)), None
            case 6:
                return messages.Move(job_id=job_id, before=source.choice([None, *JOBS])), None
            case 7:
                kinds = [messages.Retry, messages.Taken, messages.Forget, messages.Query]
                return source.choice(kinds)(job_id=job_id), None
            case 8:
                return source.choice([messages.Cancel, messages.Pause, messages.Resume])(job_id=job_id), None
            case 9:
                kinds = [messages.Ping, messages.Pong, messages.QueryAll, messages.Shutdown, messages.Noted]
                return source.choice(kinds)(), None
            case _:
                return messages.WhenAlone(ends=source.choice(["at-once", "never", ""])), source.choice([None, b""])

    def _asked(self) -> object:
        if self._source.random() < 0.5:
            return self._settings
        name = self._source.choice(self._settings.__struct_fields__)
        return msgspec.structs.replace(self._settings, **{name: self._source.choice(VALUES)})


def fuzz(stage: Stage, seconds: float, seed: int) -> int:
    """Sessions for so long; returns how many messages were answered. `AssertionError` for what should not be."""
    stranger = KeyPair.make()
    accounts.add(stage.home, "stranger", stranger.public)
    engine = stage.start()
    try:
        with engine.connect() as honest:
            honest.hello(timeout=PATIENCE)
            count, until, source = 0, time.monotonic() + seconds, random.Random(seed)
            to = endpoint.remote(engine.endpoint.address, keys.shown(engine.endpoint.server_key), stranger)
            while time.monotonic() < until:
                count += session(Babbler(source, stage), to, min(until, time.monotonic() + 2), f"seed {seed}")
                assert honest.ping(timeout=PATIENCE) < PATIENCE
            assert honest.jobs() == [], "a stranger's jobs are its own"
        _nothing_failed(engine)
    finally:
        engine.end()
    return count


def session(babbler: Babbler, to: endpoint.Endpoint, until: float, what: str) -> int:
    """One connection until that moment (of `time.monotonic`); returns the number of answers."""
    with Raw(to) as greeting:
        greeting.ask(*babbler.greeting())
    answered, waiting = 0, 0
    with Raw(to) as raw:
        while time.monotonic() < until or waiting:
            while waiting < WINDOW and time.monotonic() < until:
                parts = babbler.next()
                raw.socket.send_multipart(parts)
                waiting += 1
            assert raw.socket.poll(PATIENCE * 1000), f"{what}: {waiting} messages were never answered"
            answer = wire.unpack(raw.socket.recv_multipart(), sender="engine").message
            waiting, answered = waiting - 1, answered + 1
            if isinstance(answer, messages.Refusal):
                assert answer.code != "engine-error" and answer.sentence, f"{what}: {answer}"
            if isinstance(answer, messages.Job) and answer.status.error:
                assert answer.status.error.code != "engine-error", f"{what}: {answer}"
    return answered


def _nothing_failed(engine: Engine) -> None:
    """The log tells of no error that nobody has foreseen."""
    with contextlib.suppress(FileNotFoundError):
        assert "Traceback" not in engine.log.read_text(), engine.log.read_text()[-8000:]
