"""What an edit keeps on disk, so that nothing is done twice: inversions, shared by edits, and an edit's own state.

Each file holds tensors behind a digest of them and of a key that says what they are; a file that is damaged, cut short
or somebody else's is as good as none. A file has its name only once it is whole; no write waits for the disk, as the
digest tells what a power failure has left. So nothing here needs a lock, whoever shares the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from protocol.errors import full_disk

from .errors import EditError
from .fatezero.method import EditStep, Inversion

CACHE_VERSION = 1
"""To be raised with every change of the engine that changes an inversion's or an edit's numbers."""
DIGESTS_FILE = "checkpoints.json"
_DIGEST_BYTES = 32
_KEPT_OF_A_STEP = ("target_maps", "masked")
"""What an edit sums up over its steps, where it does."""


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
    """A tensor a step in files of their own, as the method's loops take them; only the newest stays in memory."""

    def __init__(self, folder: Path, name: str, key: str, temporaries: Path):
        self._folder, self._name, self._key, self._temporaries = folder, name, key, temporaries
        self._count = next(step for step in itertools.count() if not os.path.exists(self._path(step)))
        self._newest: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> Tensor:
        """The step's tensor; `StepLost` where the file is not what was written, and the steps end before it then."""
        if not self._newest or self._newest[0] != step:
            tensors = read(self._path(step), self._key_of(step))
            if tensors is None:
                self.cut(step)
                raise StepLost(f"{self._name} {step}")
            self._newest = step, tensors["tensor"]
        return self._newest[1]

    def append(self, tensor: Tensor, /) -> None:
        """Keep one more step; EditError where the disk does not take it."""
        write(self._path(self._count), self._key_of(self._count), {"tensor": tensor}, self._temporaries)
        self._newest = self._count, tensor
        self._count += 1

    def cut(self, count: int) -> None:
        """Forget all steps but the first `count`. Their files stay, for other edits that read or make the same inversion at
        this moment: those to come are written over them."""
        self._count = min(count, self._count)
        self._newest = None

    def _path(self, step: int) -> Path:
        return self._folder / f"{self._name}-{step:04}"

    def _key_of(self, step: int) -> str:
        return f"{self._key} {self._name} {step}"


class KeptInversion(Inversion):
    """An inversion in the cache, as far as it has come; it counts as used now."""

    def __init__(self, keep: Keep, key: str):
        folder = keep.cache / "inversions" / key
        super().__init__(*(KeptSteps(folder, name, key, keep.job) for name in ("latents", "maps")))
        self._folder = folder
        self.level()
        self.use()

    def use(self) -> None:
        """Note that it is in use: what was not for longest makes room where room is needed."""
        with contextlib.suppress(OSError):
            os.utime(self._folder)

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
        tensors = read(self._path, self._key)
        if tensors is None:
            return None, None
        chunk = int(tensors["chunk"])
        if "latents" not in tensors:
            return chunk, None
        kept = {name: tensors.get(name) for name in _KEPT_OF_A_STEP}
        return chunk, EditStep(int(tensors["step"]), tensors["latents"], **kept)

    def write(self, chunk: int, state: EditStep | None) -> None:
        """Keep this state in place of the one before; EditError where the disk does not take it."""
        tensors = {"chunk": torch.tensor(chunk)}
        if state:
            tensors |= {"step": torch.tensor(state.step), "latents": state.latents}
            sums = {name: getattr(state, name) for name in _KEPT_OF_A_STEP}
            tensors |= {name: tensor for name, tensor in sums.items() if tensor is not None}
        write(self._path, self._key, tensors, self._keep.job)


def write(path: Path, key: str, tensors: Mapping[str, Tensor], temporaries: Path) -> None:
    """Write a file of tensors, there whole or not at all; EditError where the disk does not take it."""
    body = safetensors.torch.save(dict(tensors))
    temporary = temporaries / f"writing-{uuid.uuid4().hex}"
    try:
        for folder in (temporaries, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(_digest(key, body))
            file.write(body)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_keep(error, path.parent) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read(path: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors of a file; None where there is no such file, or it is not what was written for `key`."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = data[_DIGEST_BYTES:]
    return safetensors.torch.load(body) if data[:_DIGEST_BYTES] == _digest(key, body) else None


def cannot_keep(error: OSError, folder: Path) -> EditError:
    """What a user is told where what is kept cannot be written."""
    if full_disk(error):
        return EditError("disk-full", f"The disk that holds {folder} is full.", "Make room on it, then try again.")
    return EditError(
        "cannot-write", f"The engine cannot write to {folder} ({error.strerror}).", "Check the folder's permissions."
    )


def _digest(key: str, body: bytes) -> bytes:
    sha = hashlib.sha256(f"{len(key)} {key}".encode())
    sha.update(body)
    return sha.digest()
