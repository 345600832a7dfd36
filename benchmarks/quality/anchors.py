"""What several anchors are worth on long clips, and anchors of its own to each shot of a clip that is cut:
``python -m benchmarks.quality.anchors --world DIR``, where ``benchmarks.quality.render --frames 48`` has put the clips.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import torch

from engine.editing import Editor
from engine.fatezero.keys import Served, several_anchors
from engine.fatezero.method import Inversion, edit, invert
from engine.memory import FRAMES_AT_ONCE
from protocol.settings import EditSettings, apply_preset

from ..metrics import psnr, warp_error
from ..world.compose import compose, object_mask
from ..world.motion import true_motion
from .__main__ import KEPT
from .baselines import Strategy
from .inside import Inside
from .pairs import Truth, pair, truth
from .report import table

SHOT = 12
"""Frames of each of two shots that are joined."""
JOINED = (
    ((1002, 1006), "snow", ("day", "day"), "on snow under a day sky"),
    ((1000, 1011), "sand", ("sunset", "sunset"), "on sand under a sunset sky"),
    ((1002, 1006), "snow", ("day", "night"), "on snow"),
)
"""Two pairs with a red cone each, from two cameras; the floor and the skies under which they are shown; what is said of that."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.anchors", description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="*", default=[1030, 1004], help="numbers of the long clips' pairs")
    parser.add_argument("--world", type=Path, default=KEPT / "long", help="rendered clips")
    parser.add_argument("--frames", type=int, default=48, help="of a long clip")
    parser.add_argument("--every", type=int, default=12, help="frames from an anchor to the next")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument(
        "--out", type=Path, default=KEPT / "anchors", help="the edited clips; those that are there are not made again"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    editor = Editor.load("builtin", precision=chosen.precision)
    for title, lines in (("Two shots", joined(editor, chosen)), ("Long clips", long_clips(editor, chosen))):
        rows = []
        for line in lines:
            print(json.dumps(line), flush=True)
            rows.append([value if isinstance(value, str) else f"{value:.2f}" for value in line.values()])
        if rows:
            print(f"\n### {title}\n\n{table(list(line), rows)}\n")


def long_clips(editor: Editor, chosen: argparse.Namespace) -> Iterator[dict]:
    """Each clip with one anchor, with several, and with those but each frame given to the nearest alone."""
    served = several_anchors("mid", chosen.frames, every=chosen.every)
    nearest = tuple(Served(*[one.after if one.share >= 0.5 else one.before] * 2, 0.0) for one in served)
    for number in chosen.pairs:
        known = truth(pair(number), chosen.world, chosen.frames)
        settings = Strategy("anchors").settings(pair(number), chosen.steps)
        for name, anchors in (
            ("one", ()),
            (f"every {chosen.every}", served),
            (f"every {chosen.every}, not faded", nearest),
        ):
            make = partial(_edited, editor, known.source, settings, anchors)
            edited = _kept(chosen.out / f"{number}, {name}.npz", make)
            yield {"clip": str(number), "anchors": name} | measured(known, edited, nearest, served)


def measured(known: Truth, edited: np.ndarray, *spreads: tuple[Served, ...]) -> dict[str, float]:
    """Of a long clip: nearness to the truth, steadiness, and that at the borders of each of the ``spreads`` of anchors
    (where the pair that serves a frame is another one than the next frame's) as a ratio to all the other steps."""
    motion, seen = true_motion(known.passes)
    error, own = (warp_error(clip, motion, seen) for clip in (edited, known.source))
    steps = np.array(
        [warp_error(edited[at : at + 2], motion[at : at + 2], seen[at : at + 2]) for at in range(len(edited) - 1)]
    )
    figures = {
        "region dB": psnr(edited, known.target, known.region),
        "truth dB": psnr(edited, known.target),
        "warp ratio": error / own,
    }
    for name, served in zip(("at half ways", "at anchors"), spreads, strict=True):
        border = np.array([one[:2] != other[:2] for one, other in pairwise(served)])
        figures[name] = float(steps[border].mean() / steps[~border].mean())
    return figures


def joined(editor: Editor, chosen: argparse.Namespace) -> Iterator[dict]:
    """Two shots in one clip with one anchor for both, and with one for each."""
    for numbers, floor, skies, words in JOINED:
        passes = [truth(pair(number), chosen.world, SHOT).passes for number in numbers]
        shots = [replace(pair(number).source, floor=floor, sky=sky) for number, sky in zip(numbers, skies)]
        source = np.concatenate([compose(*shot) for shot in zip(passes, shots)])
        target = np.concatenate([compose(its, _recoloured(shot)) for its, shot in zip(passes, shots)])
        region = np.concatenate([object_mask(its, 0) for its in passes])
        asked = apply_preset("attribute", f"a red cone {words}", f"a green cone {words}", steps=chosen.steps)
        name = f"{numbers[0]} and {numbers[1]} {words}"
        for cuts in (False, True):
            anchors = "one for each shot" if cuts else "one for both"
            settings = msgspec.structs.replace(asked, anchor_cuts=cuts)
            edited = _kept(chosen.out / f"{name}, {anchors}.npz", partial(_whole, editor, source, settings))
            ours, theirs = (
                sum(warp_error(clip[at : at + SHOT], *true_motion(its)) for at, its in zip((0, SHOT), passes))
                for clip in (edited, source)
            )
            yield {
                "clip": name,
                "anchors": anchors,
                "region dB": psnr(edited, target, region),
                "truth dB": psnr(edited, target),
                "first shot dB": psnr(edited[:SHOT], target[:SHOT]),
                "second shot dB": psnr(edited[SHOT:], target[SHOT:]),
                "warp ratio": ours / theirs,
            }


def _kept(path: Path, edited: Callable[[], np.ndarray]) -> np.ndarray:
    """An edited clip that lies in a file, or is put there."""
    if not path.is_file():
        np.savez_compressed(path, frames=edited())
    return np.load(path)["frames"]


def _whole(editor: Editor, frames: np.ndarray, settings: EditSettings) -> np.ndarray:
    return editor.edit(frames, settings).frames


def _recoloured(scene):
    (thing,) = scene.objects
    return replace(scene, objects=(replace(thing, colour="green"),))


def _edited(editor: Editor, frames: np.ndarray, settings: EditSettings, served: tuple[Served, ...]) -> np.ndarray:
    """The clip as these anchors edit it, a few frames at a time."""
    inside = Inside(editor, frames, settings)
    temporal = replace(inside.temporal, served=served)
    how = temporal, FRAMES_AT_ONCE
    start, source = Inversion(latents=[inside.latents]), (inside.plan.source, inside.embeddings["source"])
    *_, inversion = invert(inside.unet, inside.schedule, start, *source, *how)
    what = inversion, inside.plan, inside.embeddings, temporal, None, FRAMES_AT_ONCE
    *_, last = edit(inside.unet, inside.schedule, *what)
    return inside.frames(last.latents)


if __name__ == "__main__":
    main()
