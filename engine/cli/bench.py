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
from ..breakdown import WHOLE
from ..devices import PRECISIONS, choose_device, choose_dtype
from ..errors import EditError
from ..models.checkpoint import BUILTIN, load
from ..models.untrained import RANDOM_SD15, random_sd15
from ..progress import Progress, ReportProgress
from . import count, run

TABLE = "{:>7} {:28} {:>11} {:>9} {:>9} {:>12} {:>12}"


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    return run(lambda: _bench(options, argv))


def _bench(options: argparse.Namespace, argv: list[str]) -> None:
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    if options.threads:
        torch.set_num_threads(options.threads)
    checkpoint = random_sd15(device, dtype) if options.model == RANDOM_SD15 else load(options.model, device, dtype)
    where = _describe(device, dtype)
    bench = Bench(checkpoint, options.size, options.steps)
    if options.breakdown:
        _break_down(options, argv, bench, where)
        return
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
            if row.mode == "second prompt":
                print(f"second prompt through first: {row.job_over_floor / first.job_over_floor:.2f}")
    _write(options.out, argv, where, {"rows": [asdict(row) for row in done]})


def _break_down(options: argparse.Namespace, argv: list[str], bench: Bench, where: str) -> None:
    if not where.startswith("CPU"):
        raise EditError("device", "Where time goes is told of a CPU's edits only.", "Give --device cpu.")
    taken = bench.breakdown(options.frames[0])
    for title, parts in taken.items():
        print(f"{title}, seconds and share of the job")
        for name, seconds in parts.items():
            print(f"  {name:36} {seconds:8.3f} {seconds / taken['job'][WHOLE]:7.1%}")
    _write(options.out, argv, where, {"frames": options.frames[0], "steps": options.steps} | taken)


def _write(out: Path | None, argv: list[str], where: str, figures: dict) -> None:
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        result = {"device": where, "command": f"python -m engine bench {shlex.join(argv)}"}
        out.write_text(json.dumps(result | figures, indent=1) + "\n", encoding="utf-8")


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
    parser.add_argument("--frames", type=count, nargs="+", default=[8, 32, 128], help="lengths of the clips")
    parser.add_argument("--steps", type=count, default=5, help="denoising steps (default: 5)")
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu, or auto (default)")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto")
    parser.add_argument("--threads", type=count, help="of the CPU's calculations (default: as many as cores)")
    parser.add_argument(
        "--breakdown",
        action="store_true",
        help="instead: where the time of one edit of the first of those lengths goes (on a CPU)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="also write the figures there")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) > 0):
        raise argparse.ArgumentTypeError("must be WIDTHxHEIGHT, such as 896x512")
    return int(width), int(height)
