"""How fast edits are, against what the plain UNet alone would take, and what memory they need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

from protocol.settings import EditSettings, apply_preset

from .breakdown import breakdown
from .editing import KEPT_SHARE, Editor, Keep
from .memory import FRAMES_AT_ONCE
from .models.checkpoint import Checkpoint
from .progress import ReportProgress

SOURCE = "a red ball on a wooden floor"
TARGETS = {"first prompt": "a blue ball on a wooden floor", "second prompt": "a green ball on a wooden floor"}
"""By mode: the first inverts the clip, the second finds the inversion in the cache. Both keep nothing of the inversion's
attention."""
FASTEST = "first prompt, attention kept"
"""A first one again, that keeps as much of it as an edit does by itself."""
CALLS = 3
"""Of the plain UNet that are timed; the fastest counts, as all else that the machine does only makes one slower."""
SAMPLED_EVERY = 0.005
"""Seconds between two looks at the memory in use."""


@dataclass(frozen=True)
class Row:
    """One job's figures; bytes are above those of the loaded model."""

    model: str
    size: str
    """Of the pictures that the model sees, WIDTHxHEIGHT."""
    frames: int
    steps: int
    mode: str
    job_over_floor: float
    """Its time, through that of 3 * steps * frames rows of the plain UNet; on a CPU both are the time that the
    processor worked for this process, which other programs beside it change little."""
    seconds: float
    peak_device_bytes: int
    """On a CPU 0: there all is in `peak_ram_bytes`."""
    peak_ram_bytes: int


class SlidingClip:
    """A picture of coarse noise that slides to the left: a clip of any length that takes no memory."""

    def __init__(self, frames: int, width: int, height: int):
        self.shape = frames, height, width, 3
        coarse = np.random.default_rng(0).integers(0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8)
        self._picture = coarse.repeat(16, 0).repeat(16, 1)[:height, :width]

    @property
    def digest(self) -> str:
        return sha256(repr(self.shape).encode()).hexdigest()

    def __getitem__(self, part: slice | Sequence[int], /) -> np.ndarray:
        numbers = range(self.shape[0])[part] if isinstance(part, slice) else part
        return np.stack([np.roll(self._picture, -number, axis=1) for number in numbers])


class Bench:
    """A checkpoint, at one size of pictures, with the rate of its plain UNet."""

    def __init__(self, checkpoint: Checkpoint, size: tuple[int, int] | None, steps: int):
        """`size`: (width, height) of the pictures; None: the checkpoint's own square."""
        width, height = size or (checkpoint.image_side, checkpoint.image_side)
        self._checkpoint, self._steps = replace(checkpoint, image_side=round((width * height) ** 0.5)), steps
        self._clock = clock_of(checkpoint.unet.device)
        self._loaded = psutil.Process().memory_info().rss
        latents = height // checkpoint.factor, width // checkpoint.factor
        self.rates = {rows: plain_rate(checkpoint, rows, latents) for rows in (FRAMES_AT_ONCE, 3 * FRAMES_AT_ONCE)}
        """Rows a second of that time, by the rows of a call: the inversion's, and the most that an edit makes."""
        self._editor = Editor(self._checkpoint)
        self._size = self._editor.geometry(SlidingClip(1, width, height)).padded
        # What is done but once in a process does not count.
        self._editor.edit(SlidingClip(1, *self._size), apply_preset("attribute", SOURCE, SOURCE, steps=1))

    def _settings(self, target: str) -> EditSettings:
        """The method alone: what steadies an edit is measured elsewhere (`benchmarks.quality.steadiness`)."""
        return apply_preset("attribute", SOURCE, target, steps=self._steps, model=self._checkpoint.name, steady=0)

    def breakdown(self, frames: int) -> dict[str, dict[str, float]]:
        """Seconds by part of one edit that keeps nothing of the inversion's attention (see `breakdown`)."""
        settings = self._settings(TARGETS["first prompt"])
        self._editor.kept_share = 0.0
        return breakdown(self._editor, SlidingClip(frames, *self._size), settings)

    def jobs(self, frames: int, report: Callable[[str], ReportProgress]) -> Iterator[Row]:
        """The first edit of a clip, another of the same clip, and the fastest first one. `report` gives what hears progress, by the mode."""
        clip, name = SlidingClip(frames, *self._size), self._checkpoint.name
        with TemporaryDirectory(prefix="fatezero-bench-") as folder:
            for mode, target in (*TARGETS.items(), (FASTEST, TARGETS["first prompt"])):
                settings = self._settings(target)
                self._editor.kept_share = KEPT_SHARE if mode == FASTEST else 0.0
                keep = Keep(Path(folder) / ("cache" if mode in TARGETS else mode), Path(folder) / mode)
                self._editor.release_memory()  # what another job's left to the next ones is no need of this one
                with _peak_memory(self._editor.unet.device, self._loaded) as peak:
                    begun, clock = time.perf_counter(), self._clock()
                    self._editor.edit(clip, settings, report(mode), keep=keep, write=lambda *_: None)
                    seconds, taken = time.perf_counter() - begun, self._clock() - clock
                yield Row(
                    model=name,
                    size=f"{self._size[0]}x{self._size[1]}",
                    frames=frames,
                    steps=self._steps,
                    mode=mode,
                    job_over_floor=round(taken / (3 * self._steps * frames / max(self.rates.values())), 4),
                    seconds=round(seconds, 3),
                    peak_device_bytes=peak.device_bytes,
                    peak_ram_bytes=peak.ram_bytes,
                )


def clock_of(device: torch.device) -> Callable[[], float]:
    """Counts the seconds that work takes: on a CPU those that all of the process's threads are at work."""
    return time.process_time if device.type == "cpu" else time.perf_counter


@torch.no_grad()
def plain_rate(checkpoint: Checkpoint, rows: int, latents: tuple[int, int]) -> float:
    """Rows a second (see `clock_of`) that diffusers' own UNet takes in calls of `rows`; `latents`: their (height, width).

    To be measured before the UNet is changed for the method.
    """
    unet, encoder = checkpoint.unet, checkpoint.text_encoder.config
    like = dict(device=unet.device, dtype=unet.dtype)
    x = torch.randn(rows, unet.config.in_channels, *latents, **like)
    context = torch.randn(rows, encoder.max_position_embeddings, encoder.hidden_size, **like)

    clock = clock_of(unet.device)

    def call() -> float:
        begun = clock()
        unet(x, 500, encoder_hidden_states=context)
        if unet.device.type == "cuda":
            torch.cuda.synchronize(unet.device)
        return clock() - begun

    call()  # the first also chooses kernels
    return rows / min(call() for _ in range(CALLS))


@dataclass
class _Peak:
    device_bytes: int = 0
    ram_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _peak_memory(device: torch.device, loaded: int) -> Iterator[_Peak]:
    """The most memory in use until the block ends: of the device, and of the process beyond `loaded` bytes."""
    peak, process = _Peak(), psutil.Process()

    def watch() -> None:
        while not peak.over.wait(SAMPLED_EVERY):
            peak.ram_bytes = max(peak.ram_bytes, process.memory_info().rss - loaded)

    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        peak.over.set()
        watcher.join()
    if cuda:
        peak.device_bytes = torch.cuda.max_memory_allocated(device) - before
