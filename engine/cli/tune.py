"""`python -m engine tune`: a tuned video checkpoint of an image checkpoint and one clip, for shape edits of that clip."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from protocol import endpoint
from protocol.settings import BUILTIN_MODEL
from protocol.tuning import MAX_RATE, usual

from ..clips import read_clip, write_clip
from . import run
from .edit import frame_range, model_of

if TYPE_CHECKING:
    from ..tuning.tune import TuneProgress


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    return run(lambda: _tune(options))


def _tune(options: argparse.Namespace) -> None:
    home = endpoint.default_home()
    model = model_of(home, options.model)
    start, end = options.frames
    frames, rate = read_clip(options.clip, start, end)
    from ..tuning.tune import TuneSettings, tune  # here, as it imports torch: a wrong path is answered at once

    given = {name: getattr(options, name) for name in ("steps", "rate", "rank", "seed")}
    chosen = usual(options.model)._asdict() | {name: value for name, value in given.items() if value is not None}
    settings = TuneSettings(options.prompt, **chosen)
    with tqdm(
        total=settings.steps, bar_format="{n}/{total} |{bar}| {elapsed}<{remaining} {postfix}", leave=False
    ) as bar:

        def show(progress: TuneProgress) -> None:
            bar.set_postfix_str(f"loss {progress.loss:.4f}", refresh=False)
            bar.update(progress.step - bar.n)
            if progress.sample is not None:
                write_clip(options.samples / f"{progress.step:06}.mp4", progress.sample, rate)

        every = options.sample_every if options.samples else 0
        notes = tune(model, frames, settings, options.out, show, device=options.device, sample_every=every)
    print(f"tuned on {len(frames)} frames: {options.out}")
    print(f"To give it a name: python -m engine models add {options.out} --name NAME")
    for note in notes:
        print(f"note: {note}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine tune",
        description="Tune an image checkpoint on one clip, so that objects of that clip can be edited in their shape. "
        "Run again after it was ended, it goes on from where it was.",
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="a video file, or a folder of images")
    parser.add_argument("--prompt", required=True, help="what is in the clip, as its edits will say it")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the checkpoint goes: a new folder"
    )
    parser.add_argument(
        "--model",
        default=BUILTIN_MODEL,
        help=f"'{BUILTIN_MODEL}' (default), a name that 'models add' gave, or a Stable Diffusion 1.x or 2.x folder or file",
    )
    parser.add_argument(
        "--frames",
        type=frame_range,
        default=(0, None),
        metavar="START:END",
        help="tune only on these frames, counted from 0, END not included",
    )
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu, or auto (default)")
    parser.add_argument("--steps", type=_positive(int), help=f"training steps (default: {_usual('steps')})")
    parser.add_argument("--rate", type=_rate, help=f"the optimiser's step size (default: {_usual('rate')})")
    parser.add_argument(
        "--rank",
        type=_positive(int),
        help=f"rank of the temporal convolutions, which '{BUILTIN_MODEL}' does without (default: 160)",
    )
    parser.add_argument("--seed", type=_seed, help="of all random numbers, 0 to 2**64 - 1 (default: 0)")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="write there what the model makes of the clip")
    parser.add_argument("--sample-every", type=_positive(int), default=100, help="steps between samples (default: 100)")
    return parser


def _usual(name: str) -> str:
    """In words, what is usual for a setting."""
    own, others = (getattr(usual(model), name) for model in (BUILTIN_MODEL, ""))
    return f"{others:g}; of '{BUILTIN_MODEL}' {own:g}"


def _seed(text: str) -> int:
    if not 0 <= (seed := int(text)) < 2**64:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 2**64 - 1")
    return seed


def _rate(text: str) -> float:
    if not 0 < (rate := float(text)) <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"must be above 0, and {MAX_RATE:g} at most")
    return rate


def _positive(kind: type) -> Callable[[str], float]:
    def parse(text: str):
        if not (value := kind(text)) > 0:
            raise argparse.ArgumentTypeError("must be above 0")
        return value

    return parse
