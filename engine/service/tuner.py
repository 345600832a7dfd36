"""A tuning in the worker: the engine's own, with its place, its reports and its small pictures. Imported with torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from engine.clips import Clip
from engine.devices import choose_device, use_real_cores
from engine.previews import Preview
from engine.tuning.tune import TuneProgress, TuneSettings, complete, forget_state, tune
from protocol import models

from . import tunings
from .pipes import Work

LOSSES = 20
"""Steps whose mean loss is told: that of a single one says most about its timestep."""
_NOT_THE_STEPS = 0.02
"""Part of the whole that goes before the first step and after the last one."""

Report = Callable[[int, int, float, float], None]
"""Told the steps that are done, how many there are, the fraction of the whole and the loss."""


def run(home: Path, work: Work, clip: Clip, device: str, report: Report, show: Callable[[Preview], None]) -> list[str]:
    """Make the job's checkpoint, or find it made; sentences for the user. EditError as of `tune`."""
    out = tunings.working_folder(home, work)
    if complete(tunings.folder_of(home, work)):
        return []
    if complete(out):  # it was killed between its last file and its last word
        forget_state(out)
        return []
    if choose_device(device).type == "cpu":
        use_real_cores()  # as editors do, whichever was first here: their number decides the last bits
    losses: deque[float] = deque(maxlen=LOSSES)

    def tell(progress: TuneProgress) -> None:
        losses.append(progress.loss)
        part = progress.step / progress.steps
        report(progress.step, progress.steps, _NOT_THE_STEPS + (1 - 2 * _NOT_THE_STEPS) * part, fmean(losses))

    return tune(
        models.resolve(home, work.settings.model),
        clip,
        TuneSettings(work.settings.source, steps=work.tuning.steps, rate=work.tuning.rate),
        out,
        tell,
        device=device,
        preview=show,
        memory_share=work.memory_share,
    )
