"""What motion costs and brings: frames filled between keyframes, and steadied edits, against the edit of every frame.

``python -m benchmarks.quality.steadiness --world … --state …``. Each clip is edited once for every frame step; what
motion makes of that is the engine's own, on pictures in the model's size. Clips as for the ablations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import torch

from engine.editing import Editor
from engine.keyframes import Edited, Filling, keyframes
from engine.steady import steadied

from ..metrics import psnr, warp_error
from ..world.motion import true_motion
from .__main__ import KEPT
from .ablations import FIRST
from .baselines import METHOD, Strategy
from .figures import Figures, by_kind, figures
from .pairs import FRAMES, KINDS, Truth, pair, truth
from .report import decibels, percent, ratio, table

STEPS = (1, 2, 3, 4)
WAYS = {
    "every frame": (1, 0),
    "every 2nd": (2, 0),
    "every 3rd": (3, 0),
    "every 4th": (4, 0),
    "steadied over 1": (1, 1),
    "steadied over 2": (1, 2),
    "steadied over 4": (1, 4),
    "every 2nd, steadied over 1": (2, 1),
    "every 4th, steadied over 1": (4, 1),
}
"""Name to the frame step, and frames on either side."""
HELD = {"every 2nd, held": 2, "every 4th, held": 4}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.steadiness", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="pairs; kinds take turns")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--only", nargs="*", default=list(WAYS), metavar="NAME", help="rows by name")
    parser.add_argument("--world", type=Path, default=KEPT / "world", help="rendered clips")
    parser.add_argument("--state", type=Path, default=KEPT / "steadiness", help="edits that are done")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    editor, rows = None, {}
    for number in range(FIRST, FIRST + chosen.count):
        known, path = truth(pair(number), chosen.world, FRAMES), chosen.state / f"{number}.npz"
        if not path.is_file():
            editor = editor or Editor.load("builtin", precision=chosen.precision)
            _edit(editor, number, known, path)
        with np.load(path) as edits:
            for name, measured in _measure(known, edits, chosen.only):
                rows.setdefault(name, []).append((pair(number).kind, measured))
        print(number, flush=True)
    _report(rows)


def _edit(editor: Editor, number: int, known: Truth, path: Path) -> None:
    """Edit the clip, and the clip of its keyframes for each step; with the processor seconds of each."""
    settings = msgspec.structs.replace(Strategy(METHOD).settings(pair(number), 20), steady=0, keep_background=False)
    arrays, times = {}, []
    for step in STEPS:
        begun = time.process_time()
        arrays[f"k{step}"] = editor.edit(known.source[keyframes(FRAMES, step)], settings).frames
        times.append(time.process_time() - begun)
    coded = {f"coded_{name}": editor.autoencode(getattr(known, name)) for name in ("source", "target")}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, times=np.array(times), **arrays, **coded)


def _measure(known: Truth, edits: np.lib.npyio.NpzFile, chosen: list[str]) -> Iterator[tuple[str, Figures]]:
    motion, seen = true_motion(known.passes)
    coded = {name: edits[f"coded_{name}"] for name in ("source", "target")}
    source_warp, whole = warp_error(known.source, motion, seen), edits["k1"]
    for name, clip in (("right answer", known.target), *((f"autoencoder: {role}", coded[role]) for role in coded)):
        yield name, {"warp": warp_error(clip, motion, seen), "source_warp": source_warp}
    for name, step in HELD.items():
        held = edits[f"k{step}"][np.arange(FRAMES) // step]
        yield name, _figures(known, held, coded, whole, edits["times"][step - 1] / edits["times"][0])
    for name, (step, beside) in ((name, WAYS[name]) for name in chosen):
        begun = time.process_time()
        clip = finished(known.source, edits[f"k{step}"], step, beside)
        seconds = edits["times"][step - 1] + time.process_time() - begun
        yield name, _figures(known, clip, coded, whole, seconds / edits["times"][0])


def _figures(known: Truth, clip: np.ndarray, coded: dict, whole: np.ndarray, share: float) -> Figures:
    near = psnr(clip, whole)
    return figures(known, clip, None, coded) | {"whole_psnr": near if np.isfinite(near) else None, "time": float(share)}


def finished(source: np.ndarray, edited: np.ndarray, step: int, beside: int) -> np.ndarray:
    """All frames of a clip (F, side, side, 3) of which the keyframes were edited."""
    numbers, filling = keyframes(len(source), step), Filling(lambda number: source[number], lambda picture: picture)
    frames = steadied(enumerate(edited), lambda place: source[numbers[place]], beside) if beside else enumerate(edited)
    return np.stack(
        [frame.levels for place, levels in frames for frame in filling.until(Edited(numbers[place], levels, {}))]
    )


def _report(rows: dict[str, list[tuple[str, Figures]]]) -> None:
    measured = {name: by_kind(each) for name, each in rows.items()}
    heads = ["", "success", "region dB", "truth dB", "truth SSIM", "background dB", "dB to every frame's edit", "time"]
    lines = [
        [name, percent(v["success"]), decibels(v["region_psnr"]), decibels(v["truth_psnr"]), ratio(v["truth_ssim"])]
        + [decibels(v["background_psnr"]), decibels(v["whole_psnr"]), percent(v["time"])]
        for name, v in ((name, kinds["all"]) for name, kinds in measured.items())
        if "success" in v
    ]
    print(table(heads, lines))
    print("\nWarp error, of the source's own\n")
    lines = [
        [name, *(ratio(kinds[kind]["warp_ratio"]) if kind in kinds else "" for kind in (*KINDS, "all"))]
        for name, kinds in measured.items()
    ]
    print(table(["", *KINDS, "all"], lines))


if __name__ == "__main__":
    main()
