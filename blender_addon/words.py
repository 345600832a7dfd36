"""What can be said about a prompt's words, before the engine has seen them and after. Without bpy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .protocol.messages import WordSeen
from .protocol.settings import words_of

MAX_TOKENS = 75
"""How much of a prompt the text encoder reads (CLIP: 77 tokens, of which two mark the ends)."""
_TOKENS = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_+")
"""What the tokenizer parts words into at least; rare words become several tokens more."""


@dataclass(frozen=True)
class Word:
    """A word of a prompt: `kept` (in both prompts), `goes` (only in the source), `new` (only in the target), or `cut`
    (beyond what the model reads)."""

    text: str
    state: str
    in_pieces: bool = False
    """The engine found that the tokenizer has no such word."""


def compare(source: str, target: str, seen: Sequence[WordSeen] = ()) -> tuple[list[Word], list[Word]]:
    """The words of both prompts, in order, and what becomes of each; `seen` is what the engine knows of the source's."""
    mine, theirs = words_of(source), words_of(target)
    marked = _marked(mine, set(theirs), "goes")
    if [word.word for word in seen] == mine:
        marked = [_as_seen(text, word, set(theirs)) for text, word in zip(mine, seen)]
    return marked, _marked(theirs, set(mine), "new")


def _as_seen(text: str, seen: WordSeen, others: set[str]) -> Word:
    return Word(text, "cut" if seen.cut else "kept" if text in others else "goes", seen.in_pieces)


def _marked(words: list[str], others: set[str], alone: str) -> list[Word]:
    marked, tokens = [], 0
    for text in words:
        tokens += len(_TOKENS.findall(text))
        state = "cut" if tokens > MAX_TOKENS else "kept" if text in others else alone
        marked.append(Word(text, state))
    return marked
