"""How long an edit will take, and how much it will write, judged by earlier ones: kept in the user's folder."""

from __future__ import annotations

import logging
from statistics import median
from typing import NamedTuple

import msgspec

from . import folders
from .job import Job
from .protocol.private import write_private
from .protocol.settings import EditSettings
from .protocol.tuning import Tuning
from .strips import Source

log = logging.getLogger(__name__)

KEPT = 12
"""Jobs that are remembered for each engine and model, and of drafts with that."""
BY_STEP = ("invert", "edit", "tune")
"""Stages that take their time for each frame and step; all others but `load` do for each frame."""
BYTES_PER_PIXEL = 1.5
"""Of a PNG file of a photographed picture, as long as none has been made here."""


class Known(msgspec.Struct, frozen=True):
    """What a job took."""

    frames: int
    steps: int
    pixels: int
    """Of one frame."""
    seconds: dict[str, float]
    """By stage."""
    size: int
    """Bytes of its result."""
    keyframe_step: int = 1

    @property
    def edited(self) -> int:
        """Frames that the model edited."""
        return _edited(self.frames, self.keyframe_step)


class Estimate(msgspec.Struct, frozen=True):
    """What some edits will take."""

    seconds: float | None
    """None where no job has been made yet to judge by."""
    size: float
    """Bytes on disk."""


class Amount(NamedTuple):
    """One edit, as far as it decides what it takes."""

    frames: int
    steps: int
    pixels: int
    """Of one frame."""
    model: str
    """Its name, and a mark where it is tuned: that takes another time."""
    keyframe_step: int = 1
    reuse: int = 1

    @property
    def edited(self) -> int:
        """Frames that the model edits."""
        return _edited(self.frames, self.keyframe_step)


def learn(job: Job) -> None:
    """Remember what a job took that is done."""
    if job.state != "done" or not job.timings or (job.folder is None and job.tuning is None):
        return
    amount = amount_of(job.source, job.settings, job.tuning)
    key = _key(job.engine, amount)
    try:
        written = job.folder.rglob("*") if job.folder else ()
        size = sum(path.stat().st_size for path in written if path.is_file())
        known = Known(amount.frames, amount.steps, amount.pixels, job.timings, size, amount.keyframe_step)
        book = _read()
        book[key] = [*book.get(key, []), known][-KEPT:]
        write_private(folders.timings_file(), msgspec.json.encode(book))
    except OSError as error:
        log.warning("what a job took cannot be noted down: %s", error)


def amount_of(source: Source, settings: EditSettings, tuning: Tuning | None = None) -> Amount:
    """What there is to do for an edit, or for a tuning."""
    width, height = source.frame_size
    size = width * height
    if tuning:
        return Amount(source.pictures, tuning.steps, size, f"{settings.model}\ntuning")
    return Amount(source.pictures, settings.steps, size, settings.model, settings.keyframe_step, settings.reuse)


def of(amounts: list[Amount], engine: str) -> Estimate:
    """What edits will take one after the other on the engine of that name."""
    book, size, seconds, told = _read(), 0.0, 0.0, bool(amounts)
    for key in {_key(engine, amount) for amount in amounts}:
        known = book.get(key, [])
        each = [amount for amount in amounts if _key(engine, amount) == key]
        per_pixel = median(k.size / (k.frames * k.pixels) for k in known) if known else BYTES_PER_PIXEL
        size += sum(amount.frames * amount.pixels for amount in each) * per_pixel
        told &= bool(known)
        frames = sum(amount.frames for amount in each)
        frame_steps = sum(amount.edited * amount.steps for amount in each)
        for stage in {stage for k in known for stage in k.seconds}:
            took = [(k, k.seconds[stage]) for k in known if stage in k.seconds]
            if stage == "load":
                seconds += median(t for _, t in took)
            elif stage in BY_STEP:
                seconds += median(t / (k.edited * k.steps) for k, t in took) * frame_steps
            else:
                seconds += median(t / k.frames for k, t in took) * frames
    return Estimate(seconds if told else None, size)


def _edited(frames: int, step: int) -> int:
    """Of so many frames every `step`-th, and the last."""
    return -(-max(0, frames - 1) // step) + min(1, frames)


_cached: tuple[float, dict[str, list[Known]]] = (-1.0, {})


def _read() -> dict[str, list[Known]]:
    """What is known, read again only when the file has changed: panels ask while they are drawn."""
    global _cached
    path = folders.timings_file()
    try:
        changed = path.stat().st_mtime
        if _cached[0] != changed:
            _cached = changed, msgspec.json.decode(path.read_bytes(), type=dict[str, list[Known]])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return {}
    return dict(_cached[1])


def _key(engine: str, amount: Amount) -> str:
    """Drafts are known apart."""
    return f"{engine}\n{amount.model}" + (f"\n{amount.reuse}" if amount.reuse > 1 else "")
