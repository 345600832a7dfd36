"""Errors that are meant for people."""

from __future__ import annotations


class EditError(Exception):
    """Something that cannot be done: `code` for programs; `sentence` says what, `remedy` the way out, for people."""

    def __init__(self, code: str, sentence: str, remedy: str = ""):
        super().__init__(f"{sentence} {remedy}".strip())
        self.code, self.sentence, self.remedy = code, sentence, remedy
