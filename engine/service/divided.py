"""Jobs in parts: how a job was cut, and what its parts have come to, in the job's own folder.

Parts are idempotent: one that is done twice, as a worker was lost or too slow to say so, finds its own result under a
name made from all that decides it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.parts import Part, cut
from protocol.errors import UNREADABLE, ProtocolError

from . import pipes
from .store import Store, cannot_store

CUT_NAME = "parts"
_parts = msgspec.json.Decoder(list[Part]).decode


def folder_of(home: Path, work: pipes.Work) -> Path:
    """Where a job, or its part, keeps what it goes on from."""
    folder = folder_of_whole(home, work)
    return folder / f"{work.part.first}-{work.part.end}" if work.part else folder


def folder_of_whole(home: Path, work: pipes.Work) -> Path:
    """Where a job keeps what all its parts may see."""
    return home / "jobs" / work.owner / work.job_id


def split(home: Path, work: pipes.Work, most: int) -> list[Part]:
    """The parts of a job, at most `most` of them; those that it was cut into before, if it was."""
    # Masks take one inversion of all frames, a tuning sees them together, and the user's own masks are given frame by
    # frame for the whole clip.
    if work.task != "edit" or work.own_masks:
        return [Part(0, len(work.frames))]
    with contextlib.suppress(OSError, *UNREADABLE):
        return _parts((folder_of(home, work) / CUT_NAME).read_bytes())
    return _noted(home, work, cut(work.settings, len(work.frames), most))


def leave_whole(home: Path, work: pipes.Work) -> list[Part]:
    """Note that this job cannot be parted; returns its one part."""
    return _noted(home, work, [Part(0, len(work.frames))])


def kept(home: Path, work: pipes.Work, made_by: str, store: Store) -> pipes.Finished | None:
    """The part's result, if it is there whole; `made_by`: a name for the model and for how this engine edits with it."""
    try:
        result = pipes.decode((folder_of(home, work) / _name(work, made_by)).read_bytes())
    except (OSError, *UNREADABLE):
        return None
    return None if store.missing(work.owner, result.blobs) else result


def keep(home: Path, work: pipes.Work, made_by: str, result: pipes.Finished) -> None:
    """Note the part's result; `ProtocolError` where the disk does not take it. `made_by` as in `kept`."""
    write_whole(folder_of(home, work) / _name(work, made_by), pipes.encode(result))


def joined(results: Sequence[pipes.Finished]) -> pipes.Finished:
    """The results of all parts, in their order, as the job's; each note once, the time that all workers took."""
    timings: dict[str, float] = {}
    for result in results:
        for stage, seconds in result.timings.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
    return pipes.Finished(
        job_id=results[0].job_id,
        frames=[name for result in results for name in result.frames],
        masks={word: [name for result in results for name in result.masks[word]] for word in results[0].masks},
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        timings=timings,
        words=results[0].words,
        soft_masks=results[0].soft_masks,
        packs=[name for result in results for name in result.packs],
    )


def _noted(home: Path, work: pipes.Work, parts: list[Part]) -> list[Part]:
    with contextlib.suppress(ProtocolError):  # then it may be cut otherwise next time, and begin anew
        write_whole(folder_of(home, work) / CUT_NAME, msgspec.json.encode(parts))
    return parts


def _name(work: pipes.Work, made_by: str) -> str:
    asked = msgspec.msgpack.encode((work.settings, work.frames, work.part, made_by))
    return f"result-{hashlib.sha256(asked).hexdigest()[:32]}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file: there whole or not at all, unless the machine goes off, which the reader notices."""
    temporary = path.with_name(f"writing-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise cannot_store(error) from error
