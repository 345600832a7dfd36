"""Which file is open, and whether Blender has time: kept up to date by Blender's own handlers."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from . import export
from .trouble import Trouble

_loads = itertools.count(1)
_generation = 0
_saving = False


@dataclass(frozen=True)
class Document:
    """A saved .blend as it was open at some moment."""

    generation: int
    saved_as: Path

    @property
    def path(self) -> Path:
        """Where it is now: `Save As` may have moved it, opening another file has not."""
        return Path(bpy.data.filepath) if self.generation == _generation and bpy.data.filepath else self.saved_as

    def is_open(self) -> bool:
        """Whether it is still, or again, what Blender shows."""
        return self.generation == _generation or _same(Path(bpy.data.filepath or "."), self.saved_as, _generation)

    def written_since(self, path: Path) -> bool:
        """Whether the file on disk is newer than what is at `path`; never where that cannot be told."""
        try:
            return self.path.stat().st_mtime >= path.stat().st_mtime
        except OSError:
            return False


def current() -> Document:
    """The open document; `Trouble` where it has never been saved."""
    if not bpy.data.filepath:
        raise Trouble("This project has not been saved yet.", "Save it first: the result is kept beside it.")
    return Document(_generation, Path(bpy.data.filepath))


def here() -> Document:
    """The open document, saved or not: for what leaves nothing beside it."""
    return Document(_generation, Path(bpy.data.filepath))


def earlier(path: Path) -> Document:
    """A document that was open in an earlier session."""
    return Document(-1, path)


def followed(document: Document) -> Document:
    """The same with its place now: it may have been saved elsewhere, or been opened again."""
    return _saved_as(_generation, bpy.data.filepath) if document.is_open() and bpy.data.filepath else document


@functools.lru_cache(8)
def _saved_as(generation: int, path: str) -> Document:
    """Kept, as every tick asks for each job."""
    return Document(generation, Path(path))


@functools.lru_cache(256)
def _same(one: Path, other: Path, _since: int) -> bool:
    """Whether two paths lead to the same file, through links or other mounts: looked at once for each file that is opened,
    as every tick asks, and a disk may be far."""
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False


def occupied() -> bool:
    """Whether Blender renders or saves, or the user drags strips: its data had better be left alone then."""
    dragging = any(
        operator.bl_idname.startswith(("SEQUENCER_OT_", "TRANSFORM_OT_"))
        for window in bpy.context.window_manager.windows
        for operator in window.modal_operators
    )
    return _saving or dragging or bpy.app.is_job_running("RENDER")


@persistent
def _loaded(*_) -> None:
    global _generation
    _generation = next(_loads)
    export.clear()  # an automatic save may hold one


@persistent
def _save_begins(*_) -> None:
    global _saving
    _saving = True
    export.clear()


@persistent
def _save_ended(*_) -> None:
    global _saving
    _saving = False


@persistent
def _undoing(*_) -> None:
    export.clear()


_HANDLERS = {
    "load_post": _loaded,
    "undo_pre": _undoing,
    "undo_post": _undoing,
    "redo_pre": _undoing,
    "redo_post": _undoing,
    "save_pre": _save_begins,
    "save_post": _save_ended,
    "save_post_fail": _save_ended,
}


def register() -> None:
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    for name, handler in _HANDLERS.items():
        getattr(bpy.app.handlers, name).remove(handler)
