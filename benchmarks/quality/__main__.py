"""Measures edits of the rendered world against their right answers: ``python -m benchmarks.quality``.

``build.py quality`` renders the clips first. A run that was stopped goes on where it was; edits of the same model with
the same settings are never made twice.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import blind, report
from .baselines import BASELINES, METHOD, Strategy
from .pairs import FRAMES, KINDS
from .runs import Job, run

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".build" / "quality"
QUICK = {"count": len(KINDS), "frames": 4, "steps": 10}
"""One pair of each kind, and the method alone."""


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py quality", description=__doc__)
    parser.add_argument("--model", default="builtin", help="'builtin' or a checkpoint's folder")
    parser.add_argument("--count", type=int, default=60, help="pairs; kinds take turns")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each clip, at most {FRAMES}")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--precision", default="auto", help="of the UNet: auto, float32, float16 or bfloat16")
    parser.add_argument("--no-baselines", action="store_true", help="the method alone")
    parser.add_argument("--quick", action="store_true", help="a first look in a minute: {count} pairs".format(**QUICK))
    parser.add_argument("--world", type=Path, default=KEPT / "world", help="rendered clips")
    parser.add_argument("--state", type=Path, default=KEPT / "edits", help="edits that are done")
    parser.add_argument("--out", type=Path, help="folder of the results; the default is benchmarks/results")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--clips", action="store_true", help=argparse.SUPPRESS)  # says what has to be rendered, no more
    return parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    chosen = options().parse_args(arguments)
    if chosen.quick:
        vars(chosen).update(QUICK, no_baselines=True)
    if chosen.out is None:
        chosen.out = ROOT / ("output/quality" if chosen.quick else "benchmarks/results")
    return chosen


def main() -> None:
    chosen = parse()
    if chosen.clips:
        asked = {"--first": chosen.first, "--count": chosen.count, "--world": chosen.world, "--workers": chosen.workers}
        print(*(word for option in asked.items() for word in option), sep="\n")
        return
    job = Job(
        model=chosen.model,
        world=chosen.world,
        state=chosen.state,
        frames=chosen.frames,
        steps=chosen.steps,
        strategies=(Strategy(METHOD), *(() if chosen.no_baselines else BASELINES)),
        precision=chosen.precision,
        reconstruct_every=len(KINDS) if chosen.quick else 3,
    )
    edits = run(
        job, range(chosen.first, chosen.first + chosen.count), chosen.workers, lambda line: print(line, flush=True)
    )
    results = report.Results(job, command(chosen), edits)
    report.write(results, chosen.out)
    if not chosen.no_baselines:
        blind.write(results, ROOT / "output" / "quality" / "blind.html")
    print(json.dumps(report.as_json(results)["kinds"], indent=1))
    print(chosen.out / "quality.md")


def command(chosen: argparse.Namespace) -> str:
    """How to get the same results, without the places of files."""
    if chosen.quick:
        return f"python build.py quality --quick --model {chosen.model}"
    baselines = " --no-baselines" if chosen.no_baselines else ""
    first = f" --first {chosen.first}" if chosen.first else ""
    return (
        f"python build.py quality --model {chosen.model}{first} --count {chosen.count} --frames {chosen.frames} "
        f"--steps {chosen.steps} --precision {chosen.precision}{baselines}"
    )


if __name__ == "__main__":
    main()
