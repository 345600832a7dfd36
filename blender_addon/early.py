"""Frames of a running edit that are fetched while the engine still makes the later ones. Without bpy."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .link import breaks
from .protocol.connection import Connection
from .protocol.errors import ProtocolError
from .protocol.messages import JobStatus
from .tasks import Cancelled

AT_A_TIME = 2
"""Frames that are fetched before anything else gets its turn."""


@dataclass
class _Known:
    written: int = 0
    """Frames that the engine has made."""
    fetched: int = 0


class Early:
    """What the client's thread fetches of jobs that run, each into a folder of its own, below `folder`.

    A hint is all that it goes by, and a help is all that it is: when the job is done its frames are taken from here as
    far as they have the right bytes. What goes wrong here goes wrong then, and is told then.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._jobs: dict[str, _Known] = {}

    def folder_of(self, job_id: str) -> Path:
        """Where the job's frames are, by their names, if there are any."""
        return self._folder / job_id

    def heard(self, status: JobStatus) -> None:
        """The engine has said how a job stands."""
        if status.state == "running" and status.written:
            self._jobs.setdefault(status.job_id, _Known()).written = status.written

    @property
    def waiting(self) -> str:
        """The id of a job of which there is something to fetch."""
        return next((job_id for job_id, known in self._jobs.items() if known.fetched < known.written), "")

    def fetch_some(self, job_id: str, connection: Connection, still_wanted: Callable[[], None]) -> None:
        """Fetch the next frames; `ProtocolError` where the connection is lost."""
        known = self._jobs[job_id]
        try:
            names = connection.written(job_id, known.fetched)[:AT_A_TIME]
            connection.fetch_ahead(names, self.folder_of(job_id), still_wanted)
        except ProtocolError as error:
            if breaks(error):
                raise
            names = []
        known.fetched += len(names)
        if not names:  # it has ended, began anew, or there is no room here: until the engine says more
            known.written = known.fetched

    def stop_if_dropped(self, job_id: str) -> None:
        """Raise `Cancelled` where nothing more is to be fetched of a job."""
        if job_id not in self._jobs:
            raise Cancelled

    def drop(self, job_id: str) -> None:
        """Remove what there is of a job."""
        if self._jobs.pop(job_id, None):
            shutil.rmtree(self.folder_of(job_id), ignore_errors=True)
            with contextlib.suppress(OSError):  # another job's frames are in it
                self._folder.rmdir()

    def close(self) -> None:
        """Remove everything."""
        for job_id in list(self._jobs):
            self.drop(job_id)
