"""What server and worker say to each other: msgspec messages over the worker's stdin and stdout, each behind its
length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import msgspec

from engine.parts import Part
from protocol.errors import UNREADABLE
from protocol.messages import BlobName, JobId, SoftMask, Task, WordSeen
from protocol.settings import EditSettings
from protocol.tuning import Tuning

from .accounts import LOCAL

T = TypeVar("T")

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name.lower()):
    pass


class Work(_Message):
    """To the worker: edit these frames, find their masks, or tune a model on them. Also what the journal keeps of a job."""

    job_id: JobId
    settings: EditSettings
    frames: list[BlobName]
    fps: float
    owner: str = LOCAL
    memory_share: float = 1.0
    """Of the device's free memory, how much may be taken; less after a try that ran out of it."""
    task: Task = "edit"
    own_masks: list[BlobName] = []
    part: Part | None = None
    """The frames that are wanted; None: all."""
    project: str = ""
    priority: int = 0
    tuning: Tuning | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Whose job it is, and its id."""
        return self.owner, self.job_id

    @property
    def blobs(self) -> list[BlobName]:
        """All blobs that it needs."""
        return [*self.frames, *self.own_masks]


class Stop(_Message):
    """To the worker: end this job at its next denoising step."""

    job_id: JobId


class Ready(_Message):
    """From the worker: a model is loaded, and computes on `device`."""

    device: str


class Holds(_Message):
    """From the worker, after each job: bytes that it keeps of its device's own memory."""

    device_memory: int


class Reported(_Message):
    """From the worker: how far the job has come; `fraction` of the whole, 0 to 1."""

    job_id: JobId
    stage: str
    step: int
    steps: int
    fraction: float
    loss: float | None = None


class Written(_Message):
    """From the worker: the next edited frames, in their order, are in the store; of a job that it has whole."""

    job_id: JobId
    frames: list[BlobName]


class Previewed(_Message):
    """From the worker: what the edit looks like, as in the protocol's `Preview`, and a PNG file of each frame."""

    job_id: JobId
    step: int
    steps: int
    frames: list[int]
    pictures: list[bytes]


class Finished(_Message):
    """From the worker: the job's result is in the store."""

    job_id: JobId
    frames: list[BlobName]
    masks: dict[str, list[BlobName]]
    notes: list[str]
    timings: dict[str, float]
    words: list[WordSeen] = []
    soft_masks: list[SoftMask] = []
    packs: list[BlobName] = []

    @property
    def blobs(self) -> list[BlobName]:
        """All blobs of the result."""
        return [*self.frames, *(name for names in self.masks.values() for name in names), *self.packs]


class Failed(_Message):
    """From the worker: the job cannot be done."""

    job_id: JobId
    code: str
    sentence: str
    remedy: str = ""


class Stopped(_Message):
    """From the worker: the job was ended as asked."""

    job_id: JobId


AnyMessage = Work | Stop | Ready | Holds | Reported | Written | Previewed | Finished | Failed | Stopped

decode = msgspec.msgpack.Decoder(AnyMessage).decode
encode = msgspec.msgpack.Encoder().encode


def write(pipe: BinaryIO, message: msgspec.Struct) -> None:
    """Send one message; `OSError` where the other end is gone."""
    body = encode(message)
    pipe.write(_LENGTH.pack(len(body)) + body)
    pipe.flush()


def read(pipe: BinaryIO, decode: Callable[[bytes], T] = decode) -> T | None:
    """The next message, an `AnyMessage` unless `decode` takes others, or None once the other end is gone; `ValueError` for anything that is no message."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes")
    body = pipe.read(length)
    if len(body) < length:
        return None
    try:
        return decode(body)
    except UNREADABLE as error:
        raise ValueError(str(error)) from error
