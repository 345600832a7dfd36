"""Shots for a render farm: each selected strip's frames and its job file, in a folder beside the .blend; and back."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from . import export, fingerprint, reimport, strips, versions
from .documents import Document
from .protocol import farm_job
from .protocol.settings import EditSettings
from .trouble import Trouble, told

FOLDER = "fatezero-farm"
"""Beside the .blend: every shot has a folder of its own in it."""
STRIP_NAME = "strip.json"
"""Beside a shot's job file: the `Sent` that says which strip its result belongs over. Farms have no use for it."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A strip as it was when it was sent."""

    source: strips.Source
    fingerprint: str
    digest: str
    """Both as in `reimport.Origin`."""


class Sending:
    """Strips on their way into job files; a shot has its job file once all of its frames are there."""

    def __init__(self, document: Document, sources: Sequence[strips.Source], settings: EditSettings):
        """`Trouble` where nothing can be written beside the .blend."""
        self._document, self._settings = document, settings
        self._waiting = list(sources)
        self._shot: export.Export | None = None
        self._all = sum(source.pictures for source in sources)
        self._done = 0
        self.jobs: list[Path] = []
        """The job files that are written."""

    @property
    def complete(self) -> bool:
        """Whether all of them are written."""
        return not self._waiting and self._shot is None

    @property
    def fraction(self) -> float:
        """Of all frames, how many are exported."""
        return self._done / max(1, self._all)

    def step(self) -> None:
        """Export one more frame; after a shot's last one, write its job file. `Trouble` where that fails."""
        if not self._document.is_open():
            raise Trouble("Another file was opened before all strips were exported.", "Open it and send them again.")
        if self._shot is None:
            source = self._waiting.pop(0)
            self._shot = export.Export(source, self._folder(source.name) / farm_job.FRAMES_NAME)
        self._shot.render_next()
        self._done += 1
        if self._shot.complete:
            self._write(self._shot)
            self._shot = None

    def discard(self) -> None:
        """Give up: what has its job file stays, a shot that is half exported goes."""
        if self._shot:
            self._shot.discard()
            shutil.rmtree(self._shot.folder.parent, ignore_errors=True)
            self._shot = None
        self._waiting.clear()

    def _write(self, shot: export.Export) -> None:
        folder, source = shot.folder.parent, shot.source
        sent = Sent(source=source, fingerprint=fingerprint.now(source), digest=shot.digest)
        try:
            (folder / STRIP_NAME).write_bytes(msgspec.json.encode(sent))
            self.jobs.append(farm_job.write(folder, self._settings, source.name, source.fps / source.step))
        except OSError as error:
            raise Trouble(
                "The job file cannot be written to {folder}: {reason}.", "Make room on that disk and send it again.",
                folder=folder, reason=error.strerror,
            ) from error  # fmt: skip

    def _folder(self, name: str) -> Path:
        base = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or "strip"
        return self._document.path.parent / FOLDER / f"{base}-{uuid.uuid4().hex[:8]}"


@dataclass
class Placed:
    """What has come of a look at a farm's results."""

    strips: list[str] = field(default_factory=list)
    """The names of the new ones."""
    waiting: int = 0
    """Shots that have no result yet."""
    troubles: list[tuple[str, Trouble]] = field(default_factory=list)
    """Strips whose result is there and could not be placed, and why."""


def place_all(document: Document) -> Placed:
    """Put what a farm has rendered of the document's shots over the strips that were sent, wherever those are now.

    What a strip has among its versions already is left alone; so is a shot of a scene that is gone.
    """
    placed, there = Placed(), versions.strips_by_job()
    for folder in sorted((document.path.parent / FOLDER).glob("*/")):
        sent = _sent(folder)
        if sent is None or folder.name in there or strips.scene_of(sent.source) is None:
            continue
        if not (folder / farm_job.RESULT_NAME / "frames").is_dir():
            placed.waiting += 1
            continue
        try:
            placed.strips.append(_place(folder, sent))
        except Exception as error:  # noqa: BLE001  the other shots are placed all the same
            placed.troubles.append((sent.source.name, told(error)))
    return placed


def _place(folder: Path, sent: Sent) -> str:
    settings, result = farm_job.read(folder / farm_job.JOB_NAME).settings, folder / farm_job.RESULT_NAME
    frames = farm_job.frames_of(result / "frames")
    if len(frames) != sent.source.pictures:
        raise Trouble(
            "The result in {folder} has {found} frames, and the strip had {wanted}.", "Send the strip again.",
            folder=result, found=len(frames), wanted=sent.source.pictures,
        )  # fmt: skip
    record = result / farm_job.RECORD_NAME
    engine, made = json.loads(record.read_bytes()).get("engine", ""), os.stat(record).st_mtime
    origin = reimport.origin_for(folder.name, sent.source, settings, engine, sent.digest, sent.fingerprint, made)
    return reimport.insert(sent.source, frames, origin)


def _sent(folder: Path) -> Sent | None:
    try:
        return msgspec.json.decode((folder / STRIP_NAME).read_bytes(), type=Sent)
    except (OSError, msgspec.DecodeError):
        return None  # of another program, or of a time when none was written
