"""`python -m engine doctor`: what there is, and what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform

import psutil
import torch

from protocol import endpoint

from .. import __version__
from ..devices import choose_device, choose_dtype, describe
from ..errors import EditError
from ..kernel_choice import candidates, settle
from ..models.checkpoint import BUILTIN, load

NEEDED = (
    "torch",
    "diffusers",
    "transformers",
    "safetensors",
    "numpy",
    "pillow",
    "av",
    "opencv-python-headless",
    "pyzmq",
    "msgspec",
)
OPTIONAL = {"xformers": "optional, for CUDA"}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine doctor", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="checkpoint folders to try")
    options = parser.parse_args(argv)
    faults = 0

    def say(what: str, found: str) -> None:
        print(f"{what:14} {found}")

    say("engine", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for package in (*NEEDED, *OPTIONAL):
        try:
            say(package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            say(package, OPTIONAL.get(package, "MISSING: install requirements/engine.txt"))
            faults += package in NEEDED
    device = choose_device()
    say("device", describe(device))
    dtype = choose_dtype("auto", device)
    among = candidates(device)
    kernel = settle(device, dtype, endpoint.default_home(), among)
    how = (
        f"the fastest of {' and '.join(among)} in {str(dtype).removeprefix('torch.')}"
        if len(among) > 1
        else "no other here"
    )
    say("attention", f"{kernel}, {how}")
    say("memory", f"{psutil.virtual_memory().available / 2**30:.1f} GiB free, {psutil.cpu_count()} processors")
    for name in (BUILTIN, *options.checkpoints):
        try:
            checkpoint = load(name, torch.device("cpu"), torch.float32)
            side = checkpoint.image_side
            say("checkpoint", f"{name}: fine, {_millions(checkpoint)} M parameters, made for {side} x {side}")
        except EditError as error:
            say("checkpoint", f"{name}: {error}")
            faults += 1
    print("All there." if not faults else f"{faults} thing(s) missing or broken, marked above.")
    return 1 if faults else 0


def _millions(checkpoint) -> int:
    modules = (checkpoint.unet, checkpoint.vae, checkpoint.text_encoder)
    return round(sum(weight.numel() for module in modules for weight in module.parameters()) / 1e6)
