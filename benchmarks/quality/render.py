"""Renders the benchmark's clips: ``python -m benchmarks.quality.render --count 60``, in a Python that has ``bpy``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from ..world.__main__ import spread
from .pairs import FRAMES, SIDE, clips_to_render, pair


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.render", description=__doc__)
    parser.add_argument("--count", type=int, required=True, help="pairs")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of a clip")
    parser.add_argument("--world", type=Path, required=True, help="folder; clips that are there already are kept")
    parser.add_argument("--workers", type=int, default=1, help="processes beside each other")
    parser.add_argument("--share", type=int, default=0, help=argparse.SUPPRESS)  # which of the workers this is
    arguments = parser.parse_args()
    if arguments.workers > 1 and "--share" not in sys.argv:
        spread("benchmarks.quality.render", arguments.workers)
    else:
        _render(arguments)


def _render(arguments: argparse.Namespace) -> None:
    from ..world.render import render_passes

    numbers = range(arguments.first, arguments.first + arguments.count)
    clips = [clip for number in numbers for clip in clips_to_render(pair(number), arguments.world)]
    clips = clips[arguments.share :: arguments.workers]
    # Cycles reports every sample on the C standard output: keep ours, and give it the null device.
    ours = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    start = time.monotonic()
    for done, (scene, folder) in enumerate(clips, 1):
        render_passes(scene, arguments.frames, SIDE, folder)
        print(f"{folder.name}: {done} of {len(clips)}, {time.monotonic() - start:.0f} s", file=ours)


if __name__ == "__main__":
    main()
