"""A job's masks become a mask set: a folder with a small grey PNG file for each word and frame. Without bpy."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .landing import Landing, cannot_write
from .protocol import packs
from .protocol.files import Fetched

INDEX = "masks.json"
"""Written last: a folder with it is whole."""
MOST_SETS = 50
"""Sets that are kept; the oldest make room."""
ABANDONED_SECONDS = 24 * 3600.0
"""After which a set that is not whole will not become so any more."""


@dataclass(frozen=True)
class About:
    """What is noted down of a set, and the `folder` that it is to become."""

    folder: Path
    source: dict
    """The strip, as a `strips.Source` has it."""
    prompt: str
    digest: str
    """Of the clip that was exported."""


def keep(fetched: Fetched, folder: Path, about: About) -> Path | None:
    """Make a set of what was fetched into `folder`, and drop its packs there; None where the job has made no masks.

    `Trouble` where the disk does not take it, `ProtocolError('malformed')` where the packs are none.
    """
    if not fetched.packs:
        return None
    landing = Landing(about.folder)
    try:
        _write(landing.open(), fetched, about)
        shutil.rmtree(folder / "packs")
    except OSError as error:
        raise cannot_write(about.folder, error) from error
    shown = landing.show()
    prune(about.folder.parent)
    return shown


def prune(folder: Path, most: int = MOST_SETS) -> None:
    """Remove all sets but the newest ones below `folder`, and what was never finished."""
    sets = sorted(((_age(path / INDEX), path) for path in folder.iterdir() if path.is_dir()), reverse=True)
    whole = [path for age, path in sets if age and not path.name.startswith(".")]
    left = [path for path in folder.glob(".*.part") if _age(path) < time.time() - ABANDONED_SECONDS]
    for path in (*whole[most:], *left):
        shutil.rmtree(path, ignore_errors=True)


def _write(folder: Path, fetched: Fetched, about: About) -> None:
    names = [
        [f"w{number:02}_{frame:05}.png" for frame in range(1, len(fetched.packs) + 1)]
        for number in range(len(fetched.soft_masks))
    ]
    for frame, pack in enumerate(fetched.packs):
        for files, picture in zip(names, packs.split(pack.read_bytes(), len(names))):
            (folder / files[frame]).write_bytes(picture)
    words = [
        {"word": mask.word, "index": mask.index, "kind": mask.kind, "files": files}
        for mask, files in zip(fetched.soft_masks, names)
    ]
    index = {
        "source": about.source,
        "prompt": about.prompt,
        "digest": about.digest,
        "frames": len(fetched.packs),
        "first": 0,
        "step": 1,
        "words": words,
    }
    whole = folder / f".{INDEX}"
    whole.write_bytes(msgspec.json.encode(index))
    os.replace(whole, folder / INDEX)


def _age(path: Path) -> float:
    """When it was last changed, in seconds since 1970; 0 where it is not there."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
