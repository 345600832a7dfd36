"""What faster, less exact edits are worth, and what they take: ``python -m benchmarks.quality.drafts --world FOLDER``.

The method's own settings with fewer steps, and with the UNet's deeper levels reused between steps, over held-out pairs
that the benchmark does not use. Time is that at which the process is at work, as a share of the full edit's of the same
pair: the whole edit, the autoencoder included. Use one thread (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import msgspec
import numpy as np

from engine.editing import Editor

from ..metrics import psnr
from .__main__ import KEPT
from .ablations import FIRST
from .baselines import METHOD, Strategy
from .pairs import Truth, pair, truth
from .report import decibels, percent, ratio, table

VARIANTS = {
    "full": {},
    "reuse 2": dict(reuse=2),
    "reuse 3": dict(reuse=3),
    "reuse 5": dict(reuse=5),
    "10 steps": dict(steps=10),
    "10 steps, reuse 2": dict(steps=10, reuse=2),
    "10 steps, reuse 3": dict(steps=10, reuse=3),
    "15 steps, reuse 3": dict(steps=15, reuse=3),
    "15 steps, reuse 5: the draft": dict(steps=15, reuse=5),
}
"""Settings that are changed, of edits in 20 steps; the first is what the others are measured against."""
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.drafts", description=__doc__)
    parser.add_argument("--model", default="builtin", help="'builtin' or a checkpoint's folder")
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first pair")
    parser.add_argument("--count", type=int, default=10, help="pairs; kinds take turns")
    parser.add_argument("--frames", type=int, default=4, help="of each clip")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--world", type=Path, default=KEPT / "world", help="rendered clips")
    parser.add_argument("--out", type=Path, help="a file that takes each edit's figures, a line of JSON each")
    chosen = parser.parse_args()
    editor = Editor.load(chosen.model, precision=chosen.precision)
    rows: list[dict] = []
    for number in range(chosen.first, chosen.first + chosen.count):
        for row in edits(editor, number, chosen):
            rows.append(row)
            if chosen.out:
                with chosen.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        print(f"pair {number} is done", flush=True)
    print(summary(rows))


def edits(editor: Editor, number: int, chosen: argparse.Namespace):
    """The figures of each variant of a pair."""
    its_pair = pair(number)
    known = truth(its_pair, chosen.world, chosen.frames)
    full, seconds = None, 0.0
    for name, changes in VARIANTS.items():
        settings = msgspec.structs.replace(Strategy(METHOD).settings(its_pair, STEPS), mask_words=())
        begun = time.process_time()
        frames = editor.edit(known.source, msgspec.structs.replace(settings, **changes)).frames
        taken = time.process_time() - begun
        if full is None:
            full, seconds = frames, taken
        yield {
            "pair": number,
            "variant": name,
            "success": succeeds(known, frames),
            "region": psnr(frames, known.target, known.region),
            "to_full": None if frames is full else psnr(frames, full),
            "time": taken / seconds,
        }


def succeeds(known: Truth, edited: np.ndarray) -> bool:
    """Whether the edit is nearer to its right answer than to any wrong one, as in the benchmark's figures."""
    near = psnr(edited, known.target, known.region)
    right = near > max(psnr(edited, clip, known.region) for clip in known.wrong)
    if known.other is not None:
        place, kept, changed = known.other
        right &= psnr(edited, kept, place) > max(psnr(edited, clip, place) for clip in changed)
    return bool(right)


def summary(rows: list[dict]) -> str:
    """A line for each variant: how many succeed, of those that do in full how many still do, mean decibels, time."""
    full = {row["pair"] for row in rows if row["variant"] == next(iter(VARIANTS)) and row["success"]}
    lines = []
    for name in VARIANTS:
        mine = [row for row in rows if row["variant"] == name]
        still = sum(row["success"] for row in mine if row["pair"] in full)
        to_full = [row["to_full"] for row in mine if row["to_full"] is not None]
        lines.append(
            [name, percent(np.mean([row["success"] for row in mine])), f"{still} of {len(full)}"]
            + [decibels(np.mean([row["region"] for row in mine]))]
            + [f"{np.mean(to_full):.1f} ({min(to_full):.1f})" if to_full else ""]
            + [ratio(np.mean([row["time"] for row in mine]))]
        )
    heads = ["", "success", "of the full one's", "region dB", "mean dB to the full edit (worst)", "time"]
    return table(heads, lines)


if __name__ == "__main__":
    main()
