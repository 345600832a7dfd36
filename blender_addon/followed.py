"""Jobs whose state the client's thread asks for. Without bpy."""

from __future__ import annotations

import time

ASK_EVERY = 1.0
"""Seconds between two questions for a job's state, or more where there are many; events come sooner, but may be lost."""
LOOK_UP, IDLE = 0.05, 0.5
"""Seconds between looks at what the engine says by itself, while it has jobs of ours and while it has none: the less a
thread runs Python beside Blender, the better (see `standing`)."""
_NOW, _NEVER = float("-inf"), float("inf")


class Followed:
    """Asked for one at a time, in turn, so that a long list of them holds up nothing else over a long line."""

    def __init__(self):
        self._asked: dict[str, float] = {}
        """When each was last asked for, of `time.monotonic`."""

    def __bool__(self) -> bool:
        return bool(self._asked)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._asked

    @property
    def due(self) -> str:
        """The id of the job to ask for now, or nothing."""
        job_id = min(self._asked, key=self._asked.get, default="")
        return job_id if job_id and self._asked[job_id] + ASK_EVERY <= time.monotonic() else ""

    @property
    def patience(self) -> float:
        """Seconds to wait where there is nothing else to do."""
        return 0.0 if self.due else LOOK_UP if self._asked else IDLE

    def add(self, job_id: str) -> None:
        """Ask for it from now on, and at once."""
        self._asked[job_id] = _NOW

    def discard(self, job_id: str) -> None:
        """Ask for it no more."""
        self._asked.pop(job_id, None)

    def asked(self, job_id: str) -> None:
        """It is the next one's turn."""
        self._asked[job_id] = time.monotonic()

    def done(self, job_id: str) -> None:
        """There is nothing more to ask for until it is added again, or `ask_all_anew`."""
        self._asked[job_id] = _NEVER

    def open(self, job_id: str) -> bool:
        """Whether there is more to hear of it."""
        return self._asked.get(job_id, _NEVER) < _NEVER

    def ask_all_anew(self) -> None:
        """What is known of them is of another connection."""
        self._asked = dict.fromkeys(self._asked, _NOW)
