"""What tuning on the clip does for a change of shape: ``python -m benchmarks.quality.tuning --pairs 1003 1008 --world FOLDER``.

The same edit, with the same settings, by the model as it is and by the model tuned on the pair's source; both against the
truth. ``benchmarks.quality.render`` makes the world.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Protocol

import numpy as np
import torch

from engine.editing import Editor
from engine.tuning.tune import TuneSettings, tune
from protocol.settings import BUILTIN_MODEL, EditSettings, apply_preset
from protocol.tuning import usual

from ..metrics import psnr
from .pairs import pair, truth


class Known(Protocol):
    """What of a `pairs.Truth` is asked here."""

    source: np.ndarray
    target: np.ndarray
    wrong: Sequence[np.ndarray]
    region: np.ndarray


def figures(editor: Editor, known: Known, settings: EditSettings) -> dict[str, float]:
    """PSNR in dB to what is right: of the whole picture, and of the object's place before and after.

    `margin`: how much nearer that place is to what is right than to the nearest of the other shapes, the source's included.
    """
    edited = editor.edit(known.source, settings).frames
    near = psnr(edited, known.target, known.region)
    wrong = max(psnr(edited, clip, known.region) for clip in known.wrong)
    return {"truth_psnr": psnr(edited, known.target), "region_psnr": near, "margin": near - wrong}


def compare(
    prompts: tuple[str, str], known: Known, steps: int, training: TuneSettings, model: str, folder: Path
) -> dict[str, dict[str, float]]:
    """The figures before and after the tuning, whose checkpoint goes into `folder`, by the same settings."""
    settings = apply_preset("shape", *prompts, steps=steps, model=model)
    before = figures(Editor.load(model, precision="float32"), known, settings)
    tune(model, known.source, training, folder)
    return {"before": before, "after": figures(Editor.load(str(folder), precision="float32"), known, settings)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.tuning", description=__doc__)
    parser.add_argument(
        "--pairs",
        type=int,
        nargs="+",
        required=True,
        help="their numbers; of every five the fourth changes a shape (3)",
    )
    parser.add_argument("--world", type=Path, required=True, help="what benchmarks.quality.render has written")
    parser.add_argument("--frames", type=int, default=4, help="of the clip (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of denoising (%(default)s)")
    parser.add_argument("--training-steps", type=int, help="(as usual for the model)")
    parser.add_argument("--rate", type=float, help="the optimiser's step size (as usual for the model)")
    parser.add_argument("--model", default=BUILTIN_MODEL, help="(%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    its_usual, gains = usual(options.model), []
    for number in options.pairs:
        its = pair(number)
        known = truth(its, options.world, options.frames)
        training = TuneSettings(
            its.prompts[0], steps=options.training_steps or its_usual.steps, rate=options.rate or its_usual.rate
        )
        with tempfile.TemporaryDirectory() as folder:
            found = compare(its.prompts, known, options.steps, training, options.model, Path(folder) / "tuned")
        gains.append({name: found["after"][name] - found["before"][name] for name in found["after"]})
        print(json.dumps({"pair": number, "prompts": its.prompts, **found}), flush=True)
    print(json.dumps({"gain": {name: round(fmean(gain[name] for gain in gains), 2) for name in gains[0]}}))


if __name__ == "__main__":
    main()
