"""What each choice of the method's settings is worth: ``python -m benchmarks.quality.ablations --model … --count 20``.

The method's own settings, one of them changed at a time, over held-out pairs that the benchmark does not use. Their clips
are rendered with ``python -m benchmarks.quality.render --first 1000``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from protocol.settings import EditSettings, Window, new_words

from .__main__ import KEPT
from .baselines import METHOD, Changes, Strategy, always
from .figures import by_kind
from .pairs import KINDS, pair
from .report import decibels, percent, ratio, table
from .runs import Job, run
from .trials import TRIALS

FIRST = 1000  # number of the first pair: far from the benchmark's own


def unblended(settings: EditSettings) -> dict:
    """The authors' own use of blend words: none but for a change of shape, and there for attention alone."""
    words = {} if settings.cross_mode == "replace" else dict(blend_source=(), blend_target=())
    return words | dict(blend_latents=False, blend_attention=True, keep_background=False)


def windows(cross: float, own: float) -> Changes:
    """Ends of the windows of cross- and self-attention."""
    return always(cross_window=Window(0.0, cross), self_window=Window(0.0, own))


def equalizer(weight: float) -> Changes:
    """The weight of all words that are new in the target prompt."""
    return partial(_reweighted, weight)


def _reweighted(weight: float, settings: EditSettings) -> dict:
    return dict(word_weights=dict.fromkeys(new_words(settings.source, settings.target), weight))


_CHANGES = {
    "normalisation over the clip": always(normalization="clip"),
    "keys: first": always(keys=("first",)),
    "keys: previous and first": always(keys=("-1", "first")),
    "keys: previous and mid": always(keys=("-1", "mid")),
    "keys: own and mid": always(keys=("0", "mid")),
    "10 steps": always(steps=10),
    "50 steps": always(steps=50),
    "guidance 2": always(guidance=2.0),
    "guidance 4": always(guidance=4.0),
    "guidance 7.5": always(guidance=7.5),
    "windows 0.3": windows(0.3, 0.3),
    "windows 0.5": windows(0.5, 0.5),
    "windows 0.8": windows(0.8, 0.8),
    "cross 0.8, self 0.3": windows(0.8, 0.3),
    "cross 0.3, self 0.8": windows(0.3, 0.8),
    "equalizer 1": equalizer(1.0),
    "equalizer 2": equalizer(2.0),
    "equalizer 5": equalizer(5.0),
    "threshold 0.2": always(blend_threshold=0.2),
    "threshold 0.5": always(blend_threshold=0.5),
    "cross 0, self 0.5": windows(0.0, 0.5),
    "cross 0.2, self 0.2": windows(0.2, 0.2),
    "the paper's mask": always(mask="paper", blend_threshold=0.3),
    "background not kept": always(keep_background=False),
    "latents not blended": unblended,
    "latents blended in the authors' steps": always(blend_steps=Window(0.2, 0.8)),
    "keyframes: every 2nd": always(keyframe_step=2),
    "keyframes: every 4th": always(keyframe_step=4),
    "steadied over 2": always(steady=2),
    "steadied over 4": always(steady=4),
}
ABLATIONS = [
    *(Strategy(name, changes) for name, changes in _CHANGES.items()),
    *TRIALS,
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.ablations", description=__doc__)
    parser.add_argument("--model", default="builtin", help="'builtin' or a checkpoint's folder")
    parser.add_argument("--count", type=int, default=20, help="pairs; kinds take turns")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--only", nargs="*", default=[strategy.name for strategy in ABLATIONS], metavar="NAME", help="ablations by name"
    )
    parser.add_argument("--world", type=Path, default=KEPT / "world", help="rendered clips")
    parser.add_argument("--state", type=Path, default=KEPT / "edits", help="edits that are done")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    chosen = parser.parse_args()
    strategies = (Strategy(METHOD), *(strategy for strategy in ABLATIONS if strategy.name in chosen.only))
    job = Job(
        chosen.model, chosen.world, chosen.state, chosen.frames, chosen.steps, strategies, precision=chosen.precision
    )
    edits = run(job, range(FIRST, FIRST + chosen.count), chosen.workers, lambda line: print(line, flush=True))
    for kind in (*KINDS, "all"):
        rows = []
        for strategy in strategies:
            mine = [(pair(edit.number).kind, edit.figures) for edit in edits if edit.strategy == strategy.name]
            measured = by_kind(mine).get(kind)
            if measured:
                rows.append(
                    [strategy.name, percent(measured["success"]), decibels(measured["region_psnr"])]
                    + [decibels(measured["truth_psnr"]), decibels(measured["background_psnr"])]
                    + [ratio(measured["warp_ratio"])]
                )
        print(f"\n### {kind}\n")
        print(table(["", "success", "region dB", "truth dB", "background dB", "warp ratio"], rows))


if __name__ == "__main__":
    main()
