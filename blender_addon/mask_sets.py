"""Mask sets: for every word of a prompt, and every frame of a strip, where in the picture the model sees that word.

One is a folder of the job that made it: `masks.json` says what there is, and beside it lie 8-bit grey PNG files, whose
0…255 stand for 0…1. They belong to the user, not to one .blend.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import bpy
import msgspec

from . import compat, folders, reimport, strips
from .strips import Source

log = logging.getLogger(__name__)

INDEX = "masks.json"


class Word(msgspec.Struct, frozen=True):
    """The maps of one word, or the mask that an edit has used."""

    word: str
    index: int
    """Its place in the prompt."""
    kind: str
    """`word`, or `blend` for the mask of an edit."""
    files: list[str]
    """One for each frame."""


class _Index(msgspec.Struct, frozen=True):
    """What `masks.json` holds."""

    source: Source
    prompt: str
    digest: str
    """Of the exported clip."""
    frames: int
    first: int
    """Which frame of the clip the first mask is of."""
    words: list[Word]
    step: int = 1
    """Frames of the clip from one mask to the next."""


@dataclass(frozen=True)
class MaskSet:
    """The masks that one job has made."""

    folder: Path
    index: _Index

    @classmethod
    def load(cls, folder: Path) -> MaskSet:
        """Raises `OSError` or `msgspec.DecodeError` where there is none in the folder, or not a whole one."""
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index)
        for word in index.words:
            if len(word.files) != index.frames or any(Path(name).name != name for name in word.files):
                raise msgspec.ValidationError(f"the files of '{word.word}' are not one in the folder for each frame")
        return cls(folder, index)

    @property
    def job_id(self) -> str:
        """The job that made it."""
        return self.folder.name

    @property
    def source(self) -> Source:
        """The strip as it was then."""
        return self.index.source

    @property
    def words(self) -> list[Word]:
        """In the prompt's order."""
        return self.index.words

    def path(self, word_number: int, frame_index: int) -> Path | None:
        """The mask of `words[word_number]` for a frame of the clip, counted from 0; None where there is none."""
        number = (frame_index - self.index.first) // self.index.step
        if not 0 <= number < self.index.frames:
            return None
        return self.folder / self.words[word_number].files[number]


def folder() -> Path:
    """Where the sets are, each in a folder named by its job."""
    return folders.masks_folder()


_loaded: dict[tuple[Path, int], MaskSet | None] = {}
"""What was read, by the index's path and time."""


def all() -> list[MaskSet]:
    """Every set that there is, newest first. Each is read only once."""
    global _loaded
    found = [path for path in folder().glob(f"*/{INDEX}") if not path.parent.name.startswith(".")]
    keys = sorted(((path, path.stat().st_mtime_ns) for path in found), key=lambda key: key[1], reverse=True)
    _loaded = {key: _loaded[key] if key in _loaded else _load(key[0].parent) for key in keys}
    return [loaded for loaded in _loaded.values() if loaded]


def for_strip(scene: bpy.types.Scene, strip) -> list[MaskSet]:
    """The sets of a strip, newest first; for a result, the set of the job that made it and then those of its source."""
    origin = reimport.origin_of(strip)
    if origin is None:
        return _by_strip(scene).get(strip.name, [])
    own = [found for found in all() if found.job_id == origin.job_id]
    return own + [found for found in _by_strip(scene).get(origin.strip, []) if found not in own]


def clip_start(found: MaskSet, strip) -> int:
    """The frame of the scene at which the strip shows the first frame of the set's clip, seen or trimmed away.

    The strip may have been moved and trimmed since; one that plays at another speed now is not told apart.
    """
    start = compat.content_start(strip)
    if reimport.origin_of(strip):  # its content is the clip
        return round(start)
    return found.source.first + round(start - found.source.content_start)


def clip_frame(found: MaskSet, strip, frame: int) -> int | None:
    """Which frame of the set's clip the strip shows at that frame of the scene; None outside of its handles."""
    if not compat.left_handle(strip) <= frame < compat.right_handle(strip):
        return None
    return frame - clip_start(found, strip)


_found: tuple[object, dict[str, list[MaskSet]]] = (None, {})
"""Which strips the sets are of, as long as the strips are called the same and the sets are the same."""


def _by_strip(scene: bpy.types.Scene) -> dict[str, list[MaskSet]]:
    """The sets by the name of the strip that each is of now; sets of strips that are not in this scene are left out."""
    global _found
    sets = [found for found in all() if found.source.scene == scene.name]
    known = scene.name, compat.all_strips(scene.sequence_editor).keys(), [found.folder for found in sets]
    if _found[0] != known:
        named: dict[str, list[MaskSet]] = {}
        for found in sets:
            if strip := strips.find(found.source):
                named.setdefault(strip.name, []).append(found)
        _found = known, named
    return _found[1]


def _load(path: Path) -> MaskSet | None:
    try:
        return MaskSet.load(path)
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s holds no masks that can be shown: %s", path, error)
        return None
