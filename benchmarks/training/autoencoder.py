"""Trains the autoencoder: ``python -m benchmarks.training.autoencoder --data DIR --state DIR --out DIR``.

``--data`` is what ``benchmarks.training.pictures`` wrote. Run again with the same ``--state`` to go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .loop import Average, Recipe, Terms, add_options, fit, launch, write_part
from .sheets import save_sheet

CONFIG = {
    "sample_size": 128,
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
}
PEAK_RATE = 1.5e-3
KL_WEIGHT = 1e-5
SQUARE_WEIGHT = 3.0  # a wrong hue is a large error on few pixels, which the absolute error alone finds late
EDGE_WEIGHT = 1.0
CROP = 64  # pixels, until the last fifth of the steps, which see whole pictures
_SEED = 11


def to_model(pictures: np.ndarray) -> torch.Tensor:
    """(B, h, w, 3) uint8 to (B, 3, h, w) float32 in -1…1."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def batch(pictures: np.ndarray, numbers: np.random.Generator, size: int, crop: int) -> torch.Tensor:
    """``size`` random pictures cut to random squares of ``crop`` pixels."""
    side = pictures.shape[1]
    cuts = []
    for row in numbers.integers(len(pictures), size=size):
        y, x = numbers.integers(side - crop + 1, size=2)
        cuts.append(pictures[row, y : y + crop, x : x + crop])
    return to_model(np.stack(cuts))


def error_terms(out: torch.Tensor, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean absolute and squared error of values, and absolute error of neighbours' differences."""
    error = out - images
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return {"value": error.abs().mean(), "square": error.square().mean(), "edges": edges}


def loss_terms(model: AutoencoderKL, images: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """``error_terms`` of a pass through sampled latents, and the KL divergence per latent value."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.encode(images).latent_dist
        latents = posterior.sample(generator)
        out = model.decode(latents).sample
    return error_terms(out.float(), images) | {"kl": posterior.kl().float().mean() / latents[0].numel()}


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Decibels between two batches in -1…1, the error pooled over all of them."""
    return float(-10 * torch.log10(F.mse_loss(a, b) / 4))


@torch.no_grad()
def reconstruct(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Through the mean latent and back, as an edit uses it."""
    return model.decode(model.encode(images).latent_dist.mean).sample.clamp(-1, 1)


def train(arguments: argparse.Namespace, rank: int, workers: int) -> None:
    torch.manual_seed(_SEED)
    pictures = np.load(arguments.data / "pictures.npy", mmap_mode="r")
    model = AutoencoderKL(**CONFIG)
    kept = to_model(pictures[:: max(1, len(pictures) // 24)][:24])

    def terms(step: int, numbers: np.random.Generator, generator: torch.Generator) -> Terms:
        late = step >= 0.8 * arguments.steps
        size = max(1, arguments.batch // (4 if late else 1) // workers)
        images = batch(pictures, numbers, size, CONFIG["sample_size"] if late else CROP)
        parts = loss_terms(model, images, generator)
        weighted = SQUARE_WEIGHT * parts["square"] + EDGE_WEIGHT * parts["edges"] + KL_WEIGHT * parts["kl"]
        return {"loss": parts["value"] + weighted} | parts

    def saved(done: int, averages: dict[str, Average]) -> None:
        out = reconstruct(averaged_model(averages["vae"]), kept)
        print(f"{done} of {arguments.steps}: reconstruction {psnr(out, kept):.2f} dB", flush=True)
        save_sheet(arguments.state / "autoencoder.png", torch.stack([kept, out], 1)[:12].flatten(0, 1), columns=8)

    recipe = Recipe(_SEED, PEAK_RATE, warm_up=100, decay=0.998)
    averages = fit(arguments, rank, workers, {"vae": model}, recipe, terms, saved)
    if rank == 0:
        export(averaged_model(averages["vae"]), kept, pictures, arguments.out)


def averaged_model(average: Average) -> AutoencoderKL:
    """A new model with the averaged weights."""
    model = AutoencoderKL(**CONFIG)
    model.load_state_dict(average.values)
    return model.eval()


@torch.no_grad()
def export(model: AutoencoderKL, kept: torch.Tensor, pictures: np.ndarray, out: Path) -> None:
    """Writes ``out / vae`` with the scaling factor that gives the latents' mean a standard deviation of 1."""
    sample = to_model(pictures[:: max(1, len(pictures) // 256)][:256])
    means = torch.cat([model.encode(part).latent_dist.mean for part in sample.split(32)])
    model.register_to_config(scaling_factor=round(float(1 / means.std()), 5))
    write_part(out / "vae", lambda folder: model.half().save_pretrained(folder))
    print(f"{out / 'vae'}: scaling factor {model.config.scaling_factor}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.autoencoder", description=__doc__)
    add_options(parser, steps=2400, batch=32, save_every=250)
    arguments = parser.parse_args()
    launch(train, arguments, arguments.workers)


if __name__ == "__main__":
    main()
