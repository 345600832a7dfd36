"""Makes the edits, pair by pair, and keeps each: a run that was stopped goes on with the next one."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import torch

from engine.editing import Editor
from engine.models.checkpoint import BUILTIN, BUILTIN_FOLDER
from protocol.settings import apply_preset

from ..metrics import psnr
from .baselines import METHOD, Strategy
from .figures import Figures, figures
from .inside import Inside
from .pairs import pair, truth

_VERSION = 3  # to be raised when figures are measured otherwise: edits are kept, figures made anew


@dataclass(frozen=True)
class Job:
    """What a run does for each pair."""

    model: str
    world: Path
    state: Path
    frames: int
    steps: int
    strategies: tuple[Strategy, ...]
    precision: str = "auto"
    reconstruct_every: int = 0
    """Of so many pairs one's source is also edited into itself; 0: of none."""


@dataclass(frozen=True)
class Kept:
    """An edit on disk."""

    number: int
    strategy: str
    folder: Path
    figures: Figures

    @property
    def frames(self) -> np.ndarray:
        return np.load(self.folder / "edit.npz")["frames"]


def weights_digest(model: str) -> str:
    """Of all weights of a model: the name may stay while they change."""
    folder = BUILTIN_FOLDER if model == BUILTIN else Path(model)
    digest = hashlib.sha256()
    for path in sorted([*folder.rglob("*.safetensors"), *folder.rglob("*.bin"), *folder.glob("profile.json")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def run(job: Job, numbers: range, workers: int, say: Callable[[str], None]) -> list[Kept]:
    """All edits of the pairs with these numbers, in ``workers`` processes of one thread each."""
    start, done, kept = time.monotonic(), 0, []
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for future in as_completed([pool.submit(run_pair, job, number) for number in numbers]):
            kept += future.result()
            done += 1
            passed = time.monotonic() - start
            left = passed / done * (len(numbers) - done)
            say(f"{done} of {len(numbers)} pairs, {passed:.0f} s, about {left / 60:.0f} min left")
    return sorted(kept, key=lambda edit: edit.number)


def run_pair(job: Job, number: int) -> list[Kept]:
    """The pair's edits, those that were there already included; two with the same settings are made once."""
    return list(_edits(job, number))


def _edits(job: Job, number: int) -> Iterator[Kept]:
    its_pair = pair(number)
    known = functools.cache(lambda: truth(its_pair, job.world, job.frames))
    editor = functools.cache(lambda: _editor(job.model, job.precision))
    coded = functools.cache(
        lambda: {name: editor().autoencode(getattr(known(), name)) for name in ("source", "target")}
    )
    weights = _digest_once(job.model)
    for strategy in job.strategies:
        settings = strategy.settings(its_pair, job.steps, job.model)
        # The mask words change no frame.
        same = strategy.run and strategy.name, msgspec.structs.replace(settings, mask_words=())
        folder = job.state / f"{number:04d}-{_short(weights, job.frames, job.precision, its_pair, same)}"
        if not (folder / "edit.npz").is_file():
            frames, mask = strategy.edit(editor(), known().source, settings)
            arrays = {"frames": frames} | ({} if mask is None else {"mask": mask})
            _write(folder / "edit.npz", lambda file, arrays=arrays: np.savez_compressed(file, **arrays))
        figures_file = folder / f"figures-{_VERSION}.json"
        if not figures_file.is_file():
            with np.load(folder / "edit.npz") as stored:
                measured = figures(known(), stored["frames"], stored.get("mask"), coded(), settings.blend_threshold)
            if strategy.name == METHOD:
                inside = Inside(editor(), known().source, settings)
                place = known().named
                measured["mask_ratio"] = None if place is None else inside.mask_ratio(its_pair.word, place)
                if job.reconstruct_every and number % job.reconstruct_every == 0:
                    measured |= _reconstruction(editor(), its_pair.prompts[0], known().source, coded(), job)
            _write(figures_file, lambda file, measured=measured: file.write(json.dumps(measured).encode()))
        yield Kept(number, strategy.name, folder, json.loads(figures_file.read_text()))


def _reconstruction(editor: Editor, prompt: str, source: np.ndarray, coded: dict, job: Job) -> Figures:
    """PSNR (dB) of the source edited into itself, and of the autoencoder alone."""
    settings = apply_preset("reconstruct", prompt, prompt, steps=job.steps, model=job.model)
    again = editor.edit(source, settings).frames
    return {"reconstruction_psnr": psnr(again, source), "reconstruction_ceiling": psnr(coded["source"], source)}


@functools.lru_cache(1)
def _editor(model: str, precision: str) -> Editor:
    return Editor.load(model, precision=precision)


@functools.lru_cache(1)
def _digest_once(model: str) -> str:
    return weights_digest(model)


def _short(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _write(path: Path, write: Callable) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(part, "wb") as file:
        write(file)
    os.replace(part, path)
