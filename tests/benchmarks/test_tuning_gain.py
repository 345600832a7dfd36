"""Tuning the built-in model on a clip makes a change of that clip's shape better, by the benchmark's figures."""

from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import numpy as np

from benchmarks.quality.pairs import pair
from benchmarks.quality.tuning import compare
from engine.tuning.tune import TuneSettings
from protocol.settings import BUILTIN_MODEL
from protocol.tuning import usual

SHAPES = Path(__file__).parents[1] / "data" / "shapes"
"""Of development pairs, which the benchmark does not use, the first four frames of what `pairs.truth` knows: `clips`, the
source, the target and the wrong ones (clips, F, side, side, 3) uint8, all but the source as what they differ from it
(modulo 256: that is smaller), and `region` (F, side, side) bool."""


def known(number: int) -> SimpleNamespace:
    with np.load(SHAPES / f"pair_{number}.npz") as stored:
        clips, region = stored["clips"], stored["region"]
    clips[1:] += clips[:1]
    return SimpleNamespace(source=clips[0], target=clips[1], wrong=clips[2:], region=region)


def test_shapes_are_edited_better_by_models_that_were_tuned_on_their_clips(tmp_path):
    """MEANS"""
    gains = []
    for number in (1003, 1028):
        prompts = pair(number).prompts
        training = TuneSettings(prompts[0], **usual(BUILTIN_MODEL)._asdict())
        found = compare(prompts, known(number), 10, training, BUILTIN_MODEL, tmp_path / str(number))
        gains.append({name: after - found["before"][name] for name, after in found["after"].items()})
    mean = {name: fmean(gain[name] for gain in gains) for name in gains[0]}
    assert mean["margin"] > 0.15 and mean["region_psnr"] > -0.1 and mean["truth_psnr"] > -0.1, gains
