"""Who is sent the next preview of which job: whoever has asked for it since the last one. For the desk's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol import messages

from .pipes import Previewed

MOST_WAITING = 256
"""Wishes that are remembered; those of connections that are gone make room, as they are the oldest."""


@dataclass(frozen=True)
class Hint:
    """A message for one connection that has not been asked for in the same breath."""

    client: bytes
    message: messages.Message
    buffers: tuple[bytes, ...]


class Previews:
    """Sends each preview once to each connection that wants one. `say` takes hints."""

    def __init__(self, say: Callable[[Hint], None]):
        self._say = say
        self._wanted: dict[tuple[bytes, str, str], None] = {}

    def want(self, client: bytes, owner: str, job_id: str) -> None:
        """This connection shall get the job's next preview."""
        self._wanted[client, owner, job_id] = None
        while len(self._wanted) > MOST_WAITING:
            del self._wanted[next(iter(self._wanted))]

    def show(self, owner: str, preview: Previewed) -> None:
        """Send a preview to all who want it."""
        message = messages.Preview(job_id=preview.job_id, step=preview.step, steps=preview.steps, frames=preview.frames)
        for wish in [wish for wish in self._wanted if wish[1:] == (owner, preview.job_id)]:
            del self._wanted[wish]
            self._say(Hint(wish[0], message, tuple(preview.pictures)))
