"""Shots for a render farm: each selected strip's frames and its job file, in a folder beside the .blend."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from . import export, strips
from .documents import Document
from .protocol import farm_job
from .protocol.settings import EditSettings
from .trouble import Trouble

FOLDER = "fatezero-farm"
"""Beside the .blend: every shot has a folder of its own in it."""


class Sending:
    """Strips on their way into job files; a shot has its job file once all of its frames are there."""

    def __init__(self, document: Document, sources: Sequence[strips.Source], settings: EditSettings):
        """`Trouble` where nothing can be written beside the .blend."""
        self._document, self._settings = document, settings
        self._waiting = list(sources)
        self._shot: export.Export | None = None
        self._all = sum(source.count for source in sources)
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
        folder = shot.folder.parent
        try:
            self.jobs.append(farm_job.write(folder, self._settings, shot.source.name, shot.source.fps))
        except OSError as error:
            raise Trouble(
                "The job file cannot be written to {folder}: {reason}.", "Make room on that disk and send it again.",
                folder=folder, reason=error.strerror,
            ) from error  # fmt: skip

    def _folder(self, name: str) -> Path:
        base = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:40] or "strip"
        return self._document.path.parent / FOLDER / f"{base}-{uuid.uuid4().hex[:8]}"
