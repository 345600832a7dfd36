"""The user's earlier prompts, and those marked to stay: one small file in the user's folder."""

from __future__ import annotations

import logging

import msgspec

from . import folders
from .protocol.private import write_private

log = logging.getLogger(__name__)

MOST_RECENT, MOST_FAVOURITES = 30, 100
MOST_CHARACTERS = 2000
"""Of a prompt; longer ones are not kept."""


class Pair(msgspec.Struct, frozen=True):
    """A source prompt and a target prompt, as they were used together."""

    source: str
    target: str


class Book(msgspec.Struct, frozen=True):
    """Pairs of prompts, the newest first."""

    recent: tuple[Pair, ...] = ()
    favourites: tuple[Pair, ...] = ()


def read() -> Book:
    """What is kept; an empty book where the file is not there or cannot be read."""
    global _cached
    path = folders.prompts_file()
    try:
        changed = path.stat().st_mtime_ns
        if _cached[0] != changed:
            _cached = changed, msgspec.json.decode(path.read_bytes(), type=Book)
        return _cached[1]
    except FileNotFoundError:
        return Book()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return Book()


def used(source: str, target: str) -> None:
    """Put a pair on top of the recent ones."""
    pair, book = Pair(source, target), read()
    if max(len(source), len(target)) > MOST_CHARACTERS or book.recent[:1] == (pair,):
        return
    recent = (pair, *(other for other in book.recent if other != pair))[:MOST_RECENT]
    _write(msgspec.structs.replace(book, recent=recent))


def toggle_favourite(source: str, target: str) -> None:
    """Have a pair stay, or no longer."""
    pair, book = Pair(source, target), read()
    others = tuple(other for other in book.favourites if other != pair)
    kept = others if pair in book.favourites else (pair, *others)[:MOST_FAVOURITES]
    _write(msgspec.structs.replace(book, favourites=kept))


def forget_recent() -> None:
    """Drop the recent pairs; favourites stay."""
    _write(msgspec.structs.replace(read(), recent=()))


def _write(book: Book) -> None:
    try:
        write_private(folders.prompts_file(), msgspec.json.encode(book))
    except OSError as error:
        log.warning("the prompts cannot be kept: %s", error)


_cached: tuple[int, Book] = (-1, Book())
"""The book, and when the file was changed that it was read from: menus ask while they are drawn."""
