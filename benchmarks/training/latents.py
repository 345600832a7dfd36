"""Encodes the training pictures once: ``python -m benchmarks.training.latents --data DIR --model DIR``.

Writes ``latents.npy`` (N, 4, h, w) float16 beside the pictures: the mean latents times the scaling factor.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .autoencoder import to_model
from .loop import launch

_BATCH = 16


@torch.no_grad()
def encode(arguments: argparse.Namespace, rank: int, workers: int) -> None:
    vae = AutoencoderKL.from_pretrained(arguments.model / "vae").float().eval()
    pictures = np.load(arguments.data / "pictures.npy", mmap_mode="r")
    latents = np.load(arguments.data / "latents.part.npy", mmap_mode="r+")
    starts = range(0, len(pictures), _BATCH)[rank::workers]
    for done, start in enumerate(starts, 1):
        images = to_model(pictures[start : start + _BATCH])
        with torch.autocast("cpu", torch.bfloat16):
            means = vae.encode(images).latent_dist.mean
        latents[start : start + _BATCH] = (means.float() * vae.config.scaling_factor).half().numpy()
        if rank == 0 and (done % 50 == 0 or done == len(starts)):
            print(f"{done} of {len(starts)} batches", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.latents", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model, with its 'vae'")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    arguments = parser.parse_args()
    count, side = np.load(arguments.data / "pictures.npy", mmap_mode="r").shape[:2]
    part = arguments.data / "latents.part.npy"
    np.lib.format.open_memmap(part, "w+", np.float16, (count, 4, side // 4, side // 4))
    launch(encode, arguments, arguments.workers)
    os.replace(part, arguments.data / "latents.npy")


if __name__ == "__main__":
    main()
