"""Renders many clips: ``python -m benchmarks.world --count 300 --frames 8 --out DIR``, in a Python that has ``bpy``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from .spec import sample_scene


def clip_folder(out: Path, seed: int, held_out: bool) -> Path:
    """Where the clip of a seed lies."""
    return out / f"{'held_out' if held_out else 'clip'}_{seed:05d}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world", description=__doc__)
    parser.add_argument("--count", type=int, required=True, help="clips; the seeds are FIRST to FIRST + COUNT - 1")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--frames", type=int, default=8, help="frames of a clip")
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder; clips that are there already are kept")
    parser.add_argument("--held-out", action="store_true", help="scenes for evaluation instead of training")
    parser.add_argument("--workers", type=int, default=1, help="processes beside each other")
    parser.add_argument("--share", type=int, default=0, help=argparse.SUPPRESS)  # which of the workers this is
    arguments = parser.parse_args()
    if arguments.workers > 1 and "--share" not in sys.argv:
        spread("benchmarks.world", arguments.workers)
    else:
        _render(arguments)


def spread(module: str, workers: int) -> None:
    """This process's command once more for each worker and its share: Blender's state is global to a process."""
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    running = [subprocess.Popen([*command, "--share", str(share)]) for share in range(workers)]
    codes = [worker.wait() for worker in running]
    if any(codes):
        raise SystemExit("a worker failed; run the same command again to go on from the clips that are done")


def _render(arguments: argparse.Namespace) -> None:
    from .render import render_passes

    seeds = range(arguments.first, arguments.first + arguments.count)[arguments.share :: arguments.workers]
    # Cycles reports every sample on the C standard output: keep ours, and give it the null device.
    ours = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    start = time.monotonic()
    for done, seed in enumerate(seeds, 1):
        folder = clip_folder(arguments.out, seed, arguments.held_out)
        render_passes(sample_scene(seed, arguments.held_out), arguments.frames, arguments.side, folder)
        print(f"{folder.name}: {done} of {len(seeds)}, {time.monotonic() - start:.0f} s", file=ours)


if __name__ == "__main__":
    main()
