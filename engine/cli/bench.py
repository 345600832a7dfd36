"""`python -m engine bench`: speed and memory of edits on this machine."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from ..bench import Bench, Row
from ..devices import PRECISIONS, choose_device, choose_dtype
from ..models.checkpoint import BUILTIN, load
from ..models.untrained import RANDOM_SD15, random_sd15
from ..progress import Progress, ReportProgress
from . import run

TABLE = "{:>7} {:14} {:>11} {:>9} {:>9} {:>12} {:>12}"


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    return run(lambda: _bench(options, argv))


def _bench(options: argparse.Namespace, argv: list[str]) -> None:
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    checkpoint = random_sd15(device, dtype) if options.model == RANDOM_SD15 else load(options.model, device, dtype)
    bench = Bench(checkpoint, options.size, options.steps)
    where = _describe(device, dtype)
    print(f"{checkpoint.name} on {where}")
    for rows, rate in bench.rates.items():
        print(f"plain UNet, {rows} rows a call: {rate:.2f} rows/s")
    print(TABLE.format("frames", "mode", "time/floor", "seconds", "s/frame", "device MiB", "RAM MiB"))
    done: list[Row] = []
    for frames in options.frames:
        first = None
        for row in bench.jobs(frames, lambda mode, frames=frames: _shown(f"{frames} frames, {mode}")):
            done.append(row)
            figures = (f"{row.job_over_floor:.2f}", f"{row.seconds:.2f}", f"{row.seconds / frames:.3f}")
            memory = (f"{size / 2**20:.1f}" for size in (row.peak_device_bytes, row.peak_ram_bytes))
            print(TABLE.format(frames, row.mode, *figures, *memory))
            first = first or row
        print(f"second prompt through first: {row.seconds / first.seconds:.2f}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"device": where, "command": f"python -m engine bench {shlex.join(argv)}"}
        text = json.dumps(result | {"rows": [asdict(row) for row in done]}, indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")


def _shown(what: str) -> ReportProgress:
    """Shows one job's progress as a bar that leaves with it."""
    bar = tqdm(total=100, desc=what, bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}", leave=False)

    def show(progress: Progress) -> None:
        bar.update(100 * progress.fraction - bar.n)
        if progress.fraction >= 1:
            bar.close()

    return show


def _describe(device: torch.device, dtype: torch.dtype) -> str:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type.upper()}, {torch.get_num_threads()} threads"
    return f"{name}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine bench",
        description="Measure how long edits take, against the plain UNet alone (3 rows for each step and frame), and "
        "how much memory, for clips of several lengths and a second prompt on each.",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", default=BUILTIN, help=f"'{BUILTIN}' (default), or a checkpoint's folder or file")
    model.add_argument(
        "--random-sd15",
        dest="model",
        action="store_const",
        const=RANDOM_SD15,
        help="modules of Stable Diffusion 1.5's size with random weights, which are as fast (for a GPU)",
    )
    parser.add_argument("--size", type=_size, metavar="WIDTHxHEIGHT", help="of the pictures that the model sees")
    parser.add_argument("--frames", type=_count, nargs="+", default=[8, 32, 128], help="lengths of the clips")
    parser.add_argument("--steps", type=_count, default=5, help="denoising steps (default: 5)")
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu, or auto (default)")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures there")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) > 0):
        raise argparse.ArgumentTypeError("must be WIDTHxHEIGHT, such as 896x512")
    return int(width), int(height)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)
