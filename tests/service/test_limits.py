"""Each limit of the service at its edge: what just fits is done, what does not is refused by its name."""

from __future__ import annotations

import os
import time
from collections import Counter

import msgspec
import pytest

from engine.service import accounts
from engine.service.accounts import Accounts
from engine.service.gateway import Gateway
from engine.service.retention import KEEP_SECONDS
from protocol import endpoint, files, keys, limits, messages, wire
from protocol.connection import Connection
from protocol.errors import ProtocolError
from protocol.keys import KeyPair
from tests.service.harness import PATIENCE, Engine, Raw, finished, wait_until

SLOW_DESK = """
import time
from engine.service.desk import Desk
take = Desk._take
def slowly(self, item):
    time.sleep(0.05)
    take(self, item)
Desk._take = slowly
"""
"""A desk that takes its time, as one with a slow disk does."""
BLOB = "ab" * 32


def client_of(engine: Engine, name: str) -> endpoint.Endpoint:
    """How another client, whose key is added now, reaches the engine."""
    pair = KeyPair.make()
    accounts.add(engine.home, name, pair.public)
    return endpoint.remote(engine.endpoint.address, keys.shown(engine.endpoint.server_key), pair)


def answers(raw: Raw, count: int) -> Counter[str]:
    """So many answers, by their codes, or by their types where they are no refusals."""
    found = Counter()
    for _ in range(count):
        assert raw.socket.poll(PATIENCE * 1000), f"{count - found.total()} answers are missing"
        answer = wire.unpack(raw.socket.recv_multipart(), sender="engine").message
        found[answer.code if isinstance(answer, messages.Refusal) else type(answer).__name__] += 1
    return found


def test_the_queue_of_all_clients_together_is_bounded(start_engine, tmp_path, settings, clip, start_endless):
    few = "from protocol import limits; limits.MAX_QUEUED_JOBS = 4"
    engine, frames = start_engine(tmp_path / "home", before=few), clip(1)
    with engine.connect() as local, Connection(client_of(engine, "ada")) as ada:
        start_endless(local, "endless", frames)
        local.submit("local-1", settings(), frames)
        for number in range(2):
            ada.submit(f"ada-{number}", settings(), frames)
        for client in (local, ada):
            with pytest.raises(ProtocolError) as refused:
                client.submit("one-more", settings(), frames)
            assert refused.value.code == "queue-full" and refused.value.remedy
        assert ada.submit("ada-0", settings(), frames).state == "queued", "what is known needs no room"
        local.cancel("local-1")
        assert ada.submit("one-more", settings(), frames).state == "queued"
        with pytest.raises(ProtocolError) as refused:
            local.retry("local-1")
        assert refused.value.code == "queue-full", "what was cancelled needs room again"
        local.cancel("endless")


def test_a_client_that_does_not_wait_for_answers_is_told_that_the_engine_is_busy(start_engine, tmp_path):
    engine = start_engine(tmp_path / "home", before=SLOW_DESK)
    more = 5
    with Raw(engine.endpoint) as raw, engine.connect() as other:
        for number in range(1, limits.MAX_UNANSWERED + more + 1):
            raw.socket.send_multipart(wire.pack(messages.QueryAll(request=number)))
        assert other.ping(timeout=PATIENCE) < 5, "others are not kept waiting"
        found = answers(raw, limits.MAX_UNANSWERED + more)
        assert found.keys() == {"Jobs", "busy"}
        assert 1 <= found["busy"] <= more
        assert isinstance(raw.ask(*wire.pack(messages.QueryAll(request=99))), messages.Jobs), "then it is again"


def test_a_number_that_waits_for_its_answer_is_not_taken_twice(start_engine, tmp_path):
    engine = start_engine(tmp_path / "home", before=SLOW_DESK)
    with Raw(engine.endpoint) as raw:
        for _ in range(2):
            raw.socket.send_multipart(wire.pack(messages.QueryAll(request=7)))
        assert answers(raw, 2) == {"busy": 1, "Jobs": 1}


def test_what_waits_for_all_clients_together_is_bounded(start_engine, tmp_path):
    """By its bytes: an upload counts with what it carries, a read with what its answer will."""
    share = limits.MAX_UNANSWERED * limits.CHUNK_BYTES
    little = f"from protocol import limits; limits.MAX_WAITING_BYTES = {share}"
    engine = start_engine(tmp_path / "home", before=SLOW_DESK + little)
    with Raw(engine.endpoint) as greedy, Raw(engine.endpoint) as late:
        for number in range(1, limits.MAX_UNANSWERED + 1):
            greedy.socket.send_multipart(wire.pack(messages.Read(request=number, blob=BLOB, offset=0)))
        assert answers(greedy, 1)["no-such-blob"] == 1
        for number in (1, 2, 3):
            late.socket.send_multipart(wire.pack(messages.Read(request=number, blob=BLOB, offset=0)))
        late.socket.send_multipart(wire.pack(messages.QueryAll(request=4)))
        found = answers(late, 4)
        assert found["busy"] >= 1 and found["Jobs"] == 1, "what carries nothing still passes"
        answers(greedy, limits.MAX_UNANSWERED - 1)
        assert late.read(BLOB).code == "no-such-blob"


def test_a_long_header_counts_among_what_waits(tmp_path, settings, monkeypatch):
    """A desk that waits for a disk holds all that was decoded of it."""
    client, server, waiting, said = KeyPair.make(), KeyPair.make(), [], []
    monkeypatch.setattr(limits, "MAX_WAITING_BYTES", 2 * limits.MAX_HEADER_BYTES)
    gateway = Gateway(Accounts(tmp_path, client.public), server, None, waiting.append)
    reached = endpoint.Endpoint(
        address=gateway.addresses[0], server_key=server.public, client_key=client.public, client_secret=client.secret
    )
    job = {"job_id": "long", "settings": settings(), "frames": [BLOB] * 40_000, "fps": 24.0}
    with Raw(reached) as raw:
        for number in range(1, 5):
            raw.socket.send_multipart(wire.pack(messages.Submit(request=number, **job)))

        def all_came() -> bool:
            gateway.serve()
            while raw.socket.poll(0):
                said.append(wire.unpack(raw.socket.recv_multipart(), sender="engine").message.code)
            return len(waiting) + len(said) == 4

        wait_until(all_came, "four messages")
        raw.socket.send_multipart(wire.pack(messages.QueryAll(request=5)))
        wait_until(lambda: gateway.serve() or len(waiting) == 4, "a plain question")
    gateway.close()
    assert said == ["busy"]


def test_the_largest_header_and_the_largest_chunk_pass(start_engine):
    ping = {"type": "ping", "request": 3, "padding": bytes(2**16)}
    room = limits.MAX_HEADER_BYTES - len(wire.MAGIC) - 1 - len(msgspec.msgpack.encode(ping))
    header = wire.MAGIC + b"\x01" + msgspec.msgpack.encode(ping | {"padding": bytes(2**16 + room)})
    assert len(header) == limits.MAX_HEADER_BYTES
    with Raw(start_engine().endpoint) as raw:
        assert raw.ask(header) == messages.Pong(request=3)
        chunk = bytes(limits.CHUNK_BYTES)
        first = raw.ask(*wire.pack(messages.Upload(blob=BLOB, size=2 * len(chunk), offset=0), chunk))
        assert first.received == limits.CHUNK_BYTES
        name = "cd" * 32
        largest = wire.pack(messages.Upload(blob=name, size=limits.MAX_BLOB_BYTES, offset=0), chunk)
        assert raw.ask(*largest).received == limits.CHUNK_BYTES
        over = messages.Upload(blob=name, size=limits.MAX_BLOB_BYTES + 1, offset=0)
        assert raw.ask(*wire.pack(over, chunk)).code == "over-limit"


def test_an_engine_that_keeps_all_it_may_says_so(start_engine, tmp_path, settings, clip):
    engine = start_engine(tmp_path / "home", "--quota", "0.0001")
    small, large = clip(2), clip(1, 256, 256)
    assert sum(path.stat().st_size for path in small) < 100_000 < large[0].stat().st_size
    with engine.connect() as connection:
        connection.submit("fits", settings(), small)
        with pytest.raises(ProtocolError) as refused:
            connection.submit("too-large", settings(), large)
        assert refused.value.code == "store-full" and "--quota" in refused.value.remedy
        assert finished(connection, "fits").state == "done"
    assert not engine.leftovers()


@pytest.mark.parametrize(("size", "chunk", "code"), [(2**62, b"x", "over-limit"), (10**8, b"", "malformed")])
def test_nothing_makes_room_for_an_upload_that_is_refused(start_engine, tmp_path, size, chunk, code):
    """Else one message would take everybody's caches, frames and what failed jobs would go on from."""
    kept = tmp_path / "home" / "cache" / "inversions" / "someones" / "step"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"an inversion")
    long_ago = time.time() - 2 * KEEP_SECONDS
    engine = start_engine(tmp_path / "home", "--quota", "0.05")
    os.utime(kept.parent, (long_ago, long_ago))
    with Raw(client_of(engine, "mallory")) as raw:
        upload = messages.Upload(blob=BLOB, size=size, offset=0)
        assert raw.ask(*wire.pack(upload, chunk)).code == code
        assert kept.exists()


def test_events_that_nobody_takes_are_bounded(connection, settings, clip):
    connection.submit("talkative", settings(steps=130), clip(1))
    assert finished(connection, "talkative").state == "done"
    events = connection.events()
    assert len(events) == limits.MAX_EVENTS_KEPT, "the oldest have made room"
    assert events[-1].state == "done"


def test_only_the_newest_jobs_are_listed(start_engine, settings, clip, start_endless):
    with start_engine().connect() as connection:
        frames = clip(1)
        start_endless(connection, "endless", frames)
        for number in range(limits.MAX_JOBS_LISTED + 1):
            connection.submit(f"job-{number}", settings(), frames)
        listed = [status.job_id for status in connection.jobs()]
        assert listed == [f"job-{number}" for number in range(1, limits.MAX_JOBS_LISTED + 1)]
        assert connection.status("job-0").state == "queued", "which is asked for by its name"
        connection.cancel("endless")


def test_frames_up_to_the_limit_are_looked_for(shared_engine, settings, clip):
    frame = files.digest(clip(1, seed=77)[0])
    for count, kind in ((limits.MAX_FRAMES, "Wanted"), (limits.MAX_FRAMES + 1, "over-limit")):
        submit = messages.Submit(request=1, job_id="long", settings=settings(), frames=[frame] * count, fps=24.0)
        with Raw(shared_engine.endpoint) as raw:
            raw.socket.send_multipart(wire.pack(submit))
            assert answers(raw, 1) == {kind: 1}
