"""Trains the decoder on, the encoder as it is: ``python -m benchmarks.training.decoder --data DIR --state DIR --out DIR``.

The UNet learns from latents that must not change any more; the way back to pictures still may. ``--data`` holds
pictures and latents, ``--out`` the autoencoder, which gets the better decoder.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL

from .autoencoder import EDGE_WEIGHT, SQUARE_WEIGHT, error_terms, psnr, reconstruct, to_model
from .loop import Recipe, Terms, add_options, fit, launch, write_part
from .sheets import save_sheet

PEAK_RATE = 1e-3
NOISE = 0.03  # on latents of deviation 1, so that a UNet's small errors are forgiven
_SEED = 13


def batch(latents: np.ndarray, pictures: np.ndarray, numbers: np.random.Generator, size: int):
    """``size`` random pairs of scaled latents (B, 4, h / 4, w / 4) and their pictures (B, 3, h, w)."""
    rows = numbers.integers(len(latents), size=size)
    return torch.from_numpy(latents[rows].astype(np.float32)), to_model(pictures[rows])


def train(arguments: argparse.Namespace, rank: int, workers: int) -> None:
    torch.manual_seed(_SEED)
    pictures = np.load(arguments.data / "pictures.npy", mmap_mode="r")
    latents = np.load(arguments.data / "latents.npy", mmap_mode="r")
    model = AutoencoderKL.from_pretrained(arguments.out / "vae", torch_dtype=torch.float32)
    back = torch.nn.ModuleDict({"post_quant_conv": model.post_quant_conv, "decoder": model.decoder})
    kept = to_model(pictures[:: max(1, len(pictures) // 24)][:24])

    def terms(step: int, numbers: np.random.Generator, generator: torch.Generator) -> Terms:
        codes, images = batch(latents, pictures, numbers, max(1, arguments.batch // workers))
        codes += NOISE * torch.randn(codes.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            out = model.decode(codes / model.config.scaling_factor).sample
        parts = error_terms(out.float(), images)
        return {"loss": parts["value"] + SQUARE_WEIGHT * parts["square"] + EDGE_WEIGHT * parts["edges"]} | parts

    averages = fit(arguments, rank, workers, {"back": back}, Recipe(_SEED, PEAK_RATE, warm_up=50, decay=0.995), terms)
    if rank == 0:
        back.load_state_dict(averages["back"].values)
        model.eval()
        out = reconstruct(model, kept)
        print(f"{arguments.steps} of {arguments.steps}: reconstruction {psnr(out, kept):.2f} dB", flush=True)
        save_sheet(arguments.state / "decoder.png", torch.stack([kept, out], 1)[:12].flatten(0, 1), columns=8)
        write_part(arguments.out / "vae", lambda folder: model.half().save_pretrained(folder))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.decoder", description=__doc__)
    add_options(parser, steps=900, batch=6, save_every=100)
    arguments = parser.parse_args()
    launch(train, arguments, arguments.workers)


if __name__ == "__main__":
    main()
