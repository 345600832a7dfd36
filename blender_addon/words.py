"""What can be said about a prompt's words before any engine has seen them. Without bpy."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


def compare(source: str, target: str) -> tuple[list[Word], list[Word]]:
    """The words of both prompts, in order, and what becomes of each."""
    mine, theirs = words_of(source), words_of(target)
    return _marked(mine, set(theirs), "goes"), _marked(theirs, set(mine), "new")


def _marked(words: list[str], others: set[str], alone: str) -> list[Word]:
    marked, tokens = [], 0
    for text in words:
        tokens += len(_TOKENS.findall(text))
        state = "cut" if tokens > MAX_TOKENS else "kept" if text in others else alone
        marked.append(Word(text, state))
    return marked
