"""What the inversion leaves for the edit while it is on its way, so that the source need not be computed again."""

from __future__ import annotations

from collections.abc import Sequence

from .attention import Source


class KeptSources:
    """The source's queries and keys of as many edit steps as there is room for; each is taken once.

    An edit ends in the same bits with them and without: the source's call that is left out would have been a call of the
    inversion over again.
    """

    def __init__(self, takes: Sequence[tuple[bool, bool]], room: int):
        """`takes`: for each edit step whether self- and cross-attention are injected. `room`: bytes."""
        self._takes, self._room, self._largest = takes, room, 0
        self._steps: dict[int, tuple[int | None, list[Source]]] = {}

    def __contains__(self, step: int) -> bool:
        """Whether something is kept for edit step `step`."""
        return step in self._steps

    def wanted(self, step: int) -> bool:
        """Whether edit step `step` takes anything, and there is room for it."""
        return any(self._takes[step]) and self._room > self._largest

    def empty(self, step: int) -> Source:
        """For one call of the inversion at the timestep of edit step `step`."""
        return Source(*self._takes[step])

    def fits(self, sources: list[Source]) -> bool:
        """Whether there is room for what the calls of a step have left so far. To be asked before each of them: all calls
        of a long clip leave far more than may be held."""
        size = sum(source.nbytes for source in sources)
        self._largest = max(self._largest, size)
        return size <= self._room

    def keep(self, step: int, chunk: int | None, sources: list[Source]) -> None:
        """Keep what the calls of a step have left, each with `chunk` frames at most."""
        if self.fits(sources):
            self._room -= sum(source.nbytes for source in sources)
            self._steps[step] = chunk, sources

    def take(self, step: int, chunk: int | None) -> list[Source] | None:
        """What was left for the calls of edit step `step`, which is forgotten then; None where there is nothing."""
        kept_with, sources = self._steps.pop(step, (chunk, None))
        return sources if kept_with == chunk else None

    def forget(self) -> None:
        """Give the memory back, and keep nothing more."""
        self._steps.clear()
        self._room = 0
