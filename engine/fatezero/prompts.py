"""Prompts as words and tokens, and how the tokens of two prompts correspond (Prompt-to-Prompt, arXiv 2208.01626)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """A prompt as the text encoder sees it.

    `tokens` begin with the start token and end with the end token, without padding; `spans[w]` are the positions in
    `tokens` of word w. `cut` are the words that did not fit, wholly or in part.
    """

    text: str
    words: tuple[str, ...]
    tokens: tuple[int, ...]
    spans: tuple[tuple[int, ...], ...]
    cut: tuple[str, ...]
    length: int
    """Tokens that the text encoder takes, padding included (77 for CLIP)."""

    @classmethod
    def read(cls, text: str, tokenizer, length: int) -> Prompt:
        """Tokenize `text` word by word: a tokenizer that parts at spaces gives the same tokens as for the whole.

        `length`: tokens that the text encoder takes.
        """
        words = tuple(text.split())
        tokens, spans, cut = [tokenizer.bos_token_id], [], []
        for word in words:
            pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
            room = length - 1 - len(tokens)
            if len(pieces) > room:
                cut.append(word)
            spans.append(tuple(range(len(tokens), len(tokens) + min(len(pieces), room))))
            tokens.extend(pieces[:room])
        tokens.append(tokenizer.eos_token_id)
        return cls(" ".join(words), words, tuple(tokens), tuple(spans), tuple(cut), length)

    def padded(self, pad: int) -> Tensor:
        """(1, length): the tokens as the text encoder takes them."""
        return torch.tensor([list(self.tokens) + [pad] * (self.length - len(self.tokens))])

    def positions(self, words: Iterable[str]) -> list[int]:
        """Token positions of all occurrences of `words`, each matched as a whole space-separated word."""
        wanted = set(words)
        return [k for word, span in zip(self.words, self.spans) if word in wanted for k in span]


def align(source: tuple[int, ...], target: tuple[int, ...]) -> list[int | None]:
    """For each target token the index of its source token, or None: Needleman-Wunsch, gap 0, match +1, mismatch -1.

    Ties prefer a target token without partner, then a source token without partner, then the pair: the order decides
    which of several equal alignments is taken, and with it the numbers.
    """
    rows, columns = len(source) + 1, len(target) + 1
    score = [[0] * columns for _ in range(rows)]
    for i in range(1, rows):
        for j in range(1, columns):
            pair = score[i - 1][j - 1] + (1 if source[i - 1] == target[j - 1] else -1)
            score[i][j] = max(score[i][j - 1], score[i - 1][j], pair)
    partner: list[int | None] = [None] * len(target)
    i, j = len(source), len(target)
    while i > 0 and j > 0:
        if score[i][j] == score[i][j - 1]:
            j -= 1
        elif score[i][j] == score[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            partner[j] = i
    return partner


def refine_matrix(source: Prompt, target: Prompt) -> Tensor:
    """(length, length): column n has a 1 at the source token that target token n takes its attention from.

    A column of zeros is a token without partner. Padding is paired with itself.
    """
    matrix = torch.zeros(source.length, target.length)
    for n, m in enumerate(align(source.tokens, target.tokens)):
        if m is not None:
            matrix[m, n] = 1.0
    for n in range(len(target.tokens), target.length):
        matrix[n, n] = 1.0
    return matrix


def can_replace(source: Prompt, target: Prompt) -> bool:
    """Whether words can be swapped one for one: both prompts have as many."""
    return len(source.words) == len(target.words)


def replace_matrix(source: Prompt, target: Prompt) -> Tensor:
    """(length, length): source attention times this is the attention of the prompt with its words swapped.

    After the last changed word the identity is unshifted even where the token counts differed: the authors' numbers
    need it so.
    """
    changed = [
        (old, new)
        for old, new, before, after in zip(source.spans, target.spans, source.words, target.words)
        if before != after and old and new
    ]
    matrix = torch.zeros(source.length, target.length)
    i = j = 0
    while i < source.length and j < target.length:
        if changed and changed[0][0][0] == i:
            old, new = changed.pop(0)
            if len(old) == len(new):
                matrix[list(old), list(new)] = 1.0
            else:
                matrix[old[0] : old[-1] + 1, new[0] : new[-1] + 1] = 1.0 / len(new)
            i, j = i + len(old), j + len(new)
        else:
            matrix[i if changed else j, j] = 1.0
            i, j = i + 1, j + 1
    return matrix


def token_weights(target: Prompt, words: Mapping[str, float]) -> Tensor:
    """(length,): the equalizer, 1 but for the tokens of `words`."""
    weights = torch.ones(target.length)
    for word, weight in words.items():
        weights[target.positions([word])] = weight
    return weights


def token_window(
    target: Prompt, steps: int, default: tuple[float, float], words: Mapping[str, tuple[float, float]]
) -> Tensor:
    """(steps + 1, length): 1 where the source's cross-attention is kept for a token, by step; fractions of steps + 1."""
    window = torch.zeros(steps + 1, target.length)

    def fill(positions, fractions):
        start, end = (int(fraction * (steps + 1)) for fraction in fractions)
        window[:, positions] = 0.0
        window[start:end, positions] = 1.0

    fill(list(range(target.length)), default)
    for word, fractions in words.items():
        fill(target.positions([word]), fractions)
    return window
