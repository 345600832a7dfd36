"""Messages to bytes and back; whatever the bytes are, only `ProtocolError` comes out."""

from __future__ import annotations

import random
import struct

import msgspec
import pytest

from protocol import PROTOCOL_VERSION, limits, messages, wire
from protocol.errors import ProtocolError
from protocol.settings import EditSettings, Window
from protocol.tuning import Tuning

BLOB = "ab" * 32
SETTINGS = EditSettings(
    source="a red ball", target="a blue ball", word_windows={"blue": Window(0.0, 0.25)}, blend_source=("ball",)
)
STATUS = messages.JobStatus(
    job_id="job-1",
    state="failed",
    stage="invert",
    step=3,
    steps=20,
    fraction=0.1,
    seconds_left=12.5,
    error=messages.Failure("worker-died", "It ended.", "Try again."),
    notes=["A note."],
    frames=[BLOB],
    masks={"ball": [BLOB]},
    timings={"invert": 1.5},
)
LONGEST = "\U0001f3be" * limits.MAX_SENTENCE_CHARACTERS
EVERY_MESSAGE = [
    messages.Hello(request=1, client="a test", versions=[1, 2]),
    messages.Welcome(request=1, version=1, engine="0.1.0", device="cpu", models=["builtin"], limits=limits.as_dict()),
    messages.Refusal(request=2, code="queue-full", sentence="No.", remedy="Wait."),
    messages.Ping(request=3),
    messages.Pong(request=3, memory=10**9, device_memory=10**10),
    messages.Submit(request=4, job_id="job-1", settings=SETTINGS, frames=[BLOB, BLOB], fps=23.976),
    messages.Submit(
        job_id="job-2", settings=SETTINGS, frames=[BLOB], fps=24.0, task="tune", tuning=Tuning(name="jeep", steps=300)
    ),
    messages.Wanted(request=4, missing=[messages.Missing(BLOB, 1024)]),
    messages.Upload(request=5, blob=BLOB, size=10, offset=0),
    messages.Stored(request=5, blob=BLOB, received=10),
    messages.Query(request=6, job_id="job-1"),
    messages.Job(request=6, status=STATUS),
    messages.QueryAll(request=7),
    messages.Jobs(request=7, statuses=[STATUS, STATUS.brief()]),
    messages.Cancel(request=8, job_id="job-1"),
    messages.Pause(job_id="j"),
    messages.Resume(job_id="j"),
    messages.Retry(job_id="j"),
    messages.Move(job_id="j", before="k"),
    messages.Taken(job_id="j"),
    messages.Forget(job_id="j"),
    messages.WhenAlone(ends="after-queue"),
    messages.Noted(),
    messages.Read(request=9, blob=BLOB, offset=5),
    messages.Piece(request=9, blob=BLOB, size=10, offset=5),
    messages.Shutdown(request=10),
    messages.Stopping(request=10),
    messages.Event(status=STATUS),
    messages.Preview(job_id="j", step=3, steps=20, frames=[0, 4]),
    messages.Rest(request=11),
    messages.Offer(request=12, blobs=[BLOB]),
]


def header(body: bytes, version: int = PROTOCOL_VERSION) -> bytes:
    return wire.MAGIC + bytes([version]) + body


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_wire(message):
    packet = wire.unpack(wire.pack(message, b"pixels"), sender="client")
    assert packet == wire.Packet(message, (b"pixels",))


def test_every_kind_of_message_is_tried_above():
    assert {type(message) for message in EVERY_MESSAGE} == set(messages.Message.__subclasses__())


@pytest.mark.parametrize(
    "name", ["", "ab" * 31, "AB" * 32, "ab" * 32 + "\n", "../" + "ab" * 31, "/etc/passwd", "zz" * 32, "ab" * 33]
)
def test_only_a_sha256_names_a_blob(name):
    parts = wire.pack(messages.Read(blob=name, offset=0))
    with pytest.raises(ProtocolError) as refused:
        wire.unpack(parts, sender="client")
    assert refused.value.code == "malformed"


@pytest.mark.parametrize("job_id", ["", "a" * 65, "../x", "a b", "a\n", "ä", "a\0"])
def test_only_plain_words_name_a_job(job_id):
    with pytest.raises(ProtocolError):
        wire.unpack(wire.pack(messages.Query(job_id=job_id)), sender="client")


@pytest.mark.parametrize(
    "changes",
    [dict(fps=0.0), dict(fps=float("nan")), dict(fps=1e9), dict(frames=[]), dict(frames=["x"]), dict(settings=None)],
    ids=str,
)
def test_values_out_of_range_are_malformed(changes):
    parts = wire.pack(msgspec.structs.replace(EVERY_MESSAGE[5], **changes))
    with pytest.raises(ProtocolError) as refused:
        wire.unpack(parts, sender="client")
    assert refused.value.code == "malformed"


@pytest.mark.parametrize(
    "parts",
    [
        [header(b"") + bytes(limits.MAX_HEADER_BYTES)],
        [header(b"\x80"), bytes(limits.CHUNK_BYTES + 1)],
        [header(b"\x80"), *[b""] * (limits.MAX_BUFFERS + 1)],
    ],
    ids=["header", "chunk", "buffers"],
)
def test_what_is_over_a_limit_is_refused_by_its_size_alone(parts):
    with pytest.raises(ProtocolError) as refused:
        wire.unpack(parts, sender="client")
    assert refused.value.code == "over-limit"
    assert refused.value.remedy


def test_a_sender_is_held_to_the_limits_too():
    with pytest.raises(ProtocolError):
        wire.pack(messages.Upload(blob=BLOB, size=1, offset=0), bytes(limits.CHUNK_BYTES + 1))


def test_the_largest_status_fits():
    names = [BLOB] * limits.MAX_FRAMES
    status = messages.JobStatus(
        job_id="j" * 64,
        state="done",
        frames=names,
        masks={f"word {number}": names for number in range(limits.MAX_MASK_WORDS)},
        words=[messages.WordSeen(word="w" * 1000, tokens=1, cut=True, in_pieces=True)] * 77,
        soft_masks=[messages.SoftMask(word="w" * 1000, kind="word", index=76)] * 77,
        packs=names,
        error=messages.Failure("a-code", LONGEST, LONGEST),
        notes=[LONGEST] * limits.MAX_NOTES,
    )
    wire.pack(messages.Job(status=status))
    wire.pack(messages.Jobs(statuses=[status.brief()] * limits.MAX_JOBS_LISTED))


@pytest.mark.parametrize(
    ("sender", "version", "older"), [("client", 2, "engine"), ("engine", 2, "add-on"), ("engine", 9, "add-on")]
)
def test_another_version_is_named_with_the_side_to_update(sender, version, older):
    with pytest.raises(ProtocolError) as refused:
        wire.unpack([header(b"\xc1 whatever it means", version)], sender=sender)
    assert refused.value.code == "version-mismatch"
    assert f"version {version}" in refused.value.sentence
    assert f"version {PROTOCOL_VERSION}" in refused.value.sentence
    assert refused.value.remedy == f"Update the {older}."


def test_a_preview_shows_no_more_frames_than_the_limit():
    frames = list(range(limits.MAX_PREVIEW_FRAMES))
    wire.unpack(wire.pack(messages.Preview(job_id="j", step=1, steps=2, frames=frames), *[b""] * len(frames)), "engine")
    for wrong in ([], [*frames, 9], [-1]):
        with pytest.raises(ProtocolError) as refused:
            wire.unpack(wire.pack(messages.Preview(job_id="j", step=1, steps=2, frames=wrong)), "engine")
        assert refused.value.code == "malformed"


def test_giant_counts_cost_nothing():
    for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"):
        with pytest.raises(ProtocolError):
            wire.unpack([header(body)], sender="client")


def test_deep_nesting_is_malformed():
    unknown_field = b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 1_000_000
    with pytest.raises(ProtocolError):
        wire.unpack([header(unknown_field)], sender="client")


def test_only_named_errors_escape_from_garbage():
    """Mutations of true messages, and pure noise; the seed is printed with a failure."""
    seed = random.randrange(2**32)
    source = random.Random(seed)
    samples = [bytes(wire.pack(message)[0]) for message in EVERY_MESSAGE]
    for _ in range(20_000):
        data = bytearray(source.choice(samples))
        for _ in range(source.randint(1, 4)):
            mutate(source, data)
        parts = [bytes(data), *(source.randbytes(source.randint(0, 8)) for _ in range(source.randint(0, 2)))]
        try:
            wire.unpack(parts, sender="client")
        except ProtocolError:
            pass
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {parts!r}") from error


def mutate(source: random.Random, data: bytearray) -> None:
    at = source.randint(0, len(data))
    match source.randint(0, 4):
        case 0 if at < len(data):
            data[at] = source.randrange(256)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = source.randbytes(source.randint(1, 16))
        case 3:
            data[at : at + 5] = bytes([source.choice(b"\xdd\xdf\xdb\xc6\xd9")]) + struct.pack(
                ">I", source.getrandbits(32)
            )
        case _:
            data[:] = source.randbytes(source.randint(0, 64))
