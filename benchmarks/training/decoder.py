"""Trains the decoder on, the encoder as it is: ``python -m benchmarks.training.decoder --data DIR --state DIR --out DIR``.

The UNet learns from latents that must not change any more; the way back to pictures still may. ``--data`` holds
pictures and latents, ``--out`` the autoencoder, which gets the better decoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .autoencoder import EDGE_WEIGHT, SQUARE_WEIGHT, error_terms, psnr, reconstruct, to_model
from .loop import Average, Checkpoint, launch, learning_rate, share_gradients, step_generators, write_part
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
    average = Average(back, 0.995)
    optimizer = torch.optim.AdamW(back.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(arguments.state, {"back": back}, {"back": average}, optimizer)
    kept = to_model(pictures[:: max(1, len(pictures) // 24)][:24])
    for step in range(checkpoint.load(), arguments.steps):
        numbers, generator = step_generators(_SEED, step, rank)
        codes, images = batch(latents, pictures, numbers, max(1, arguments.batch // workers))
        codes += NOISE * torch.randn(codes.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            out = model.decode(codes / model.config.scaling_factor).sample
        terms = error_terms(out.float(), images)
        (terms["value"] + SQUARE_WEIGHT * terms["square"] + EDGE_WEIGHT * terms["edges"]).backward()
        share_gradients(back.parameters(), workers)
        torch.nn.utils.clip_grad_norm_(back.parameters(), 1.0, error_if_nonfinite=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, PEAK_RATE, warm_up=50)
        optimizer.step()
        optimizer.zero_grad()
        average.update(step)
        done = step + 1
        if rank == 0 and (done % 25 == 0 or done == arguments.steps):
            shown = " ".join(f"{name} {value.item():.4f}" for name, value in terms.items())
            print(f"{done} of {arguments.steps}: {shown} {checkpoint.trained_seconds():.0f} s", flush=True)
        if rank == 0 and (done % arguments.save_every == 0 or done == arguments.steps):
            checkpoint.save(done)
    if rank == 0:
        back.load_state_dict(average.values)
        model.eval()
        out = reconstruct(model, kept)
        print(f"{arguments.steps} of {arguments.steps}: reconstruction {psnr(out, kept):.2f} dB", flush=True)
        save_sheet(arguments.state / "decoder.png", torch.stack([kept, out], 1)[:12].flatten(0, 1), columns=8)
        write_part(arguments.out / "vae", lambda folder: model.half().save_pretrained(folder))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.decoder", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="checkpoint and sample sheet")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model, with its 'vae'")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=6, help="pictures a step, over all workers")
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    arguments = parser.parse_args()
    launch(train, arguments, arguments.workers)


if __name__ == "__main__":
    main()
