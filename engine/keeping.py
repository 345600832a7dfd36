"""What an edit keeps on disk, so that nothing is done twice: inversions, shared by edits, and an edit's own state.

What has a row for each frame lies there alone, and is read some frames at a time (`tables`): so an edit's memory does not
grow with its clip. A file is there whole or not at all, and is none where it is damaged: so nothing here needs a lock, whoever
shares the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .errors import EditError
from .fatezero.frames import Frames, put
from .fatezero.method import EditStep, Inversion
from .tables import KeptTable, ScratchTable, Table, read, write

CACHE_VERSION = 3
"""To be raised with every change of the engine that changes an inversion's or an edit's numbers."""
DIGESTS_FILE = "checkpoints.json"
_AT_ONCE = 32
"""Frames of which maps are summed together."""
_ROWS = ("latents", "target_maps", "masked")
"""What an edit has of each frame after a step: the latter two where it sums them up."""


@dataclass(frozen=True)
class Keep:
    """Where an edit keeps what must not be done twice; both folders on one file system, and made when needed."""

    cache: Path
    """For what edits share: `inversions/KEY/` holds one inversion, and was changed when it was last used; it may be
    removed at any time. Besides, a small file remembers the digests of checkpoints."""
    job: Path
    """For this edit alone, to be removed once its result is safe."""

    @property
    def digests(self) -> Path:
        """The file that remembers the digests of checkpoints' files."""
        return self.cache / DIGESTS_FILE


def key_of(**what) -> str:
    """A name for what these values (of JSON's types) decide."""
    text = json.dumps({"version": CACHE_VERSION, **what}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class StepLost(Exception):
    """A step that was kept cannot be read, or not as it was written."""


class KeptSteps:
    """A table a step in files of their own, as the method's loops take them."""

    def __init__(self, folder: Path, name: str, key: str, temporaries: Path):
        self._folder, self._name, self._key, self._temporaries = folder, name, key, temporaries
        self._count = next(step for step in itertools.count() if not os.path.exists(self._path(step)))
        self._newest: tuple[int, KeptTable] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> KeptTable:
        """The step's table; `StepLost` where the file is not what was written, and the steps end before it then."""
        if not self._newest or self._newest[0] != step:
            tables = read(self._path(step), self._key_of(step), partial(self._lost, step))
            if tables is None:
                raise self._lost(step)
            self._newest = step, tables["tensor"]
        return self._newest[1]

    def append(self, table: Frames, /) -> None:
        """Keep one more step; EditError where the disk does not take it."""
        step = self._count
        written = {"tensor": table}, self._temporaries, partial(self._lost, step)
        self._newest = step, write(self._path(step), self._key_of(step), *written)["tensor"]
        self._count += 1

    def cut(self, count: int) -> None:
        """Forget all steps but the first `count`. Their files stay, for other edits that read or make the same inversion at
        this moment: those to come are written over them."""
        self._count = min(count, self._count)
        self._newest = None

    def _lost(self, step: int) -> StepLost:
        self.cut(step)
        return StepLost(f"{self._name} {step}")

    def _path(self, step: int) -> Path:
        return self._folder / f"{self._name}-{step:04}"

    def _key_of(self, step: int) -> str:
        return f"{self._key} {self._name} {step}"


class KeptInversion(Inversion):
    """An inversion in the cache, as far as it has come; it counts as used now."""

    def __init__(self, keep: Keep, key: str):
        folder = keep.cache / "inversions" / key
        super().__init__(*(KeptSteps(folder, name, key, keep.job) for name in ("latents", "maps")))
        self._folder, self._scratch = folder, keep.job
        self.level()
        self.use()

    def use(self) -> None:
        """Note that it is in use: what was not for longest makes room where room is needed."""
        with contextlib.suppress(OSError):
            os.utime(self._folder)

    def table(self, frames: int, values: Tensor) -> ScratchTable:
        """On the disk."""
        return ScratchTable(self._scratch, (frames, *values.shape[1:]), values.dtype)

    def mean_maps(self) -> Table:
        """On the disk, too; each step's are read once."""
        total = None
        for step in range(self.steps):
            maps, last = self.maps[step], step == self.steps - 1
            for start in range(0, len(maps), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                summed = total[part] + maps[part] if step else maps[part]
                total = put(total, part, summed / self.steps if last else summed, self.table, len(maps))
        return total

    def level(self) -> None:
        """Forget what one kind of tensors has beyond the other, after a step was lost or half kept."""
        steps = max(0, self.steps)
        self.latents.cut(steps + 1)
        self.maps.cut(steps)


class KeptState:
    """The state of one edit in its job's folder: the newest step only, and how many frames it took at once."""

    def __init__(self, keep: Keep, key: str):
        self._keep, self._key, self._path = keep, key, keep.job / "edit"
        for left_over in keep.job.glob("writing-*"):
            with contextlib.suppress(OSError):
                left_over.unlink()

    def read(self) -> tuple[int | None, EditStep | None]:
        """Frames at once, and the step after which the edit goes on; None where there is nothing of this edit."""
        tables = read(self._path, self._key, self._lost)
        if tables is None:
            return None, None
        chunk = int(tables["chunk"][:])
        if "latents" not in tables:
            return chunk, None
        # The file is written anew before these have been used.
        rows = {name: ScratchTable.copy_of(tables[name], self._keep.job) for name in _ROWS if name in tables}
        return chunk, EditStep(int(tables["step"][:]), **rows)

    def write(self, chunk: int, state: EditStep | None) -> None:
        """Keep this state in place of the one before; EditError where the disk does not take it."""
        tables: dict[str, Frames] = {"chunk": torch.tensor([chunk])}
        if state:
            rows = {name: getattr(state, name) for name in _ROWS}
            tables |= {"step": torch.tensor([state.step])}
            tables |= {name: table for name, table in rows.items() if table is not None}
        write(self._path, self._key, tables, self._keep.job, self._lost)

    def _lost(self) -> EditError:
        return EditError(
            "cannot-read",
            "What the engine kept of this edit cannot be read any more.",
            "Check the disk that holds the engine's folder, then try again.",
        )
