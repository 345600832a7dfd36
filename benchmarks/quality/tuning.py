"""What tuning on the clip does for a change of shape: ``python -m benchmarks.quality.tuning --pair 3 --world FOLDER``.

The same edit, with the same settings, by the model as it is and by the model tuned on the pair's source; both against the
truth. ``benchmarks.quality.render`` makes the world.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from engine.editing import Editor
from engine.tuning.tune import TuneSettings, tune
from protocol.settings import EditSettings, apply_preset

from ..metrics import psnr
from .pairs import Pair, Truth, pair, truth


def figures(editor: Editor, known: Truth, settings: EditSettings) -> dict[str, float]:
    """PSNR in dB to what is right: of the whole picture, and of the object's place before and after.

    `margin`: how much nearer that place is to what is right than to the nearest of the other shapes, the source's included.
    """
    edited = editor.edit(known.source, settings).frames
    near = psnr(edited, known.target, known.region)
    wrong = max(psnr(edited, clip, known.region) for clip in known.wrong)
    return {"truth_psnr": psnr(edited, known.target), "region_psnr": near, "margin": near - wrong}


def compare(its: Pair, known: Truth, steps: int, training: TuneSettings, model: str, folder: Path) -> dict:
    """The figures before and after the tuning, whose checkpoint goes into `folder`, and the seconds that it took."""
    source, target = its.prompts
    settings = apply_preset("shape", source, target, steps=steps, model=model)
    before = figures(Editor.load(model, precision="float32"), known, settings)
    began = time.monotonic()
    tune(model, known.source, training, folder)
    seconds = time.monotonic() - began
    after = figures(Editor.load(str(folder), precision="float32"), known, settings)
    return {"prompts": its.prompts, "before": before, "after": after, "tuning_seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.tuning", description=__doc__)
    parser.add_argument("--pair", type=int, default=3, help="its number; of every five the fourth changes a shape (3)")
    parser.add_argument("--world", type=Path, required=True, help="what benchmarks.quality.render has written")
    parser.add_argument("--frames", type=int, default=4, help="of the clip (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of denoising (%(default)s)")
    parser.add_argument("--training-steps", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--rate", type=float, default=3e-4, help="the optimiser's step size (%(default)s)")
    parser.add_argument("--model", default="builtin", help="(%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    its = pair(options.pair)
    known = truth(its, options.world, options.frames)
    training = TuneSettings(its.prompts[0], steps=options.training_steps, rate=options.rate)
    with tempfile.TemporaryDirectory() as folder:
        found = compare(its, known, options.steps, training, options.model, Path(folder) / "tuned")
    print(json.dumps({"pair": options.pair, **found}))


if __name__ == "__main__":
    main()
