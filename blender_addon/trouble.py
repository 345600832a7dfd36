"""What went wrong, in words for people."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .protocol.errors import ProtocolError

log = logging.getLogger(__name__)


class Trouble(Exception):
    """A sentence that says what is wrong and a `remedy` that says what to do; both may hold `{names}` of `values`.

    They are kept apart from their values so that they can be translated when they are shown.
    """

    def __init__(self, sentence: str, remedy: str = "", **values: object):
        super().__init__(sentence)
        self._sentence, self._remedy, self._values = sentence, remedy, values

    def told(self, translate: Callable[[str], str] = str) -> list[str]:
        """The sentence and, where there is one, the remedy."""
        return [translate(text).format(**self._values) for text in (self._sentence, self._remedy) if text]

    def __str__(self) -> str:
        return " ".join(self.told())


def as_is(sentence: str, remedy: str = "") -> Trouble:
    """Trouble in words that come from elsewhere, such as the engine."""
    return Trouble("{what}", "{way_out}" if remedy else "", what=sentence, way_out=remedy)


def waits(reason: Trouble) -> Trouble:
    """What is said of an edit that the engine has no room for now."""
    return Trouble("{reason} The edit waits here, and is sent again every few seconds.", reason=reason)


def told(error: Exception) -> Trouble:
    """What is said of any error. One that nobody has foreseen is printed in Blender's console, with all that led to it."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, ProtocolError):
        return as_is(error.sentence, error.remedy)
    log.error("unexpected", exc_info=error)
    return Trouble(
        "Something unexpected happened ({reason}).", "Please report it with what Blender's console says.",
        reason=f"{type(error).__name__}: {error}",
    )  # fmt: skip
