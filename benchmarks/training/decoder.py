"""Trains the decoder on, the encoder as it is: ``python -m benchmarks.training.decoder --data DIR --state DIR --out DIR``.

The UNet learns from latents that must not change any more; the way back to pictures still may. ``--data`` holds
pictures, latents and captions, ``--out`` the whole model, whose autoencoder gets the better decoder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from .autoencoder import EDGE_WEIGHT, SQUARE_WEIGHT, error_terms, psnr, reconstruct, to_model
from .loop import Recipe, Terms, add_options, fit, launch, write_part
from .sheets import save_sheet

PEAK_RATE = 1e-3
NOISE = 0.03  # on latents of deviation 1
LATE = 300
"""The UNet's estimates are taken at timesteps below this, of 1000: the coarse is settled there, and details are not."""
WEIGHTS = {"pixel art": 6.0, "sketch": 2.0, "watercolor": 2.0}
"""How much oftener a style is drawn than a plain picture: its squares and lines are what a small decoder learns last."""
_SEED = 13


class TrainingSet:
    """Latents, pictures and captions; ``batch`` draws from them."""

    def __init__(self, data: Path, tokenizer: CLIPTokenizer):
        self.latents = np.load(data / "latents.npy", mmap_mode="r")
        self.pictures = np.load(data / "pictures.npy", mmap_mode="r")
        captions = [paraphrases[0][0] for paraphrases in json.loads((data / "captions.json").read_text())]
        tokens = tokenizer(captions, padding="max_length").input_ids
        self.tokens = np.array(tokens, np.int16)
        weights = np.array([self._weight(caption) for caption in captions])
        self.shares = np.cumsum(weights / weights.sum())

    @staticmethod
    def _weight(caption: str) -> float:
        return next((weight for style, weight in WEIGHTS.items() if caption.endswith(style)), 1.0)

    def batch(self, numbers: np.random.Generator, size: int) -> tuple[torch.Tensor, ...]:
        """``size`` scaled latents (B, 4, h / 4, w / 4), their captions' tokens (B, 77) and pictures (B, 3, h, w)."""
        rows = np.searchsorted(self.shares, numbers.random(size)).clip(max=len(self.latents) - 1)
        latents = torch.from_numpy(self.latents[rows].astype(np.float32))
        return latents, torch.from_numpy(self.tokens[rows].astype(np.int64)), to_model(self.pictures[rows])


class Estimates:
    """The model's UNet, which leaves latents as an edit does: nearly right, and too smooth."""

    def __init__(self, model: Path):
        self.unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32).eval()
        self.text = CLIPTextModel.from_pretrained(model / "text_encoder", torch_dtype=torch.float32).eval()
        self.alphas = DDIMScheduler.from_pretrained(model / "scheduler").alphas_cumprod

    @torch.no_grad()
    def of(self, latents: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The clean latents that one call sees in noisy ones (B, 4, h, w), at timesteps below ``LATE``."""
        noise = torch.randn(latents.shape, generator=generator)
        timesteps = torch.randint(LATE, (len(latents),), generator=generator)
        alphas = self.alphas[timesteps][:, None, None, None]
        signal, spread = alphas.sqrt(), (1 - alphas).sqrt()
        noisy = signal * latents + spread * noise
        with torch.autocast("cpu", torch.bfloat16):
            text = self.text(tokens).last_hidden_state
            velocity = self.unet(noisy, timesteps, text).sample
        return signal * noisy - spread * velocity.float()


def train(arguments: argparse.Namespace, rank: int, workers: int) -> None:
    torch.manual_seed(_SEED)
    training_set = TrainingSet(arguments.data, CLIPTokenizer.from_pretrained(arguments.out / "tokenizer"))
    estimates = Estimates(arguments.out)
    model = AutoencoderKL.from_pretrained(arguments.out / "vae", torch_dtype=torch.float32)
    back = torch.nn.ModuleDict({"post_quant_conv": model.post_quant_conv, "decoder": model.decoder})
    pictures = training_set.pictures
    kept = to_model(pictures[:: max(1, len(pictures) // 24)][:24])

    def terms(step: int, numbers: np.random.Generator, generator: torch.Generator) -> Terms:
        latents, tokens, images = training_set.batch(numbers, max(2, arguments.batch // workers))
        half = len(latents) // 2
        exact = latents[half:] + NOISE * torch.randn(latents[half:].shape, generator=generator)
        codes = torch.cat([estimates.of(latents[:half], tokens[:half], generator), exact])
        with torch.autocast("cpu", torch.bfloat16):
            out = model.decode(codes / model.config.scaling_factor).sample
        parts = error_terms(out.float(), images)
        return {"loss": parts["value"] + SQUARE_WEIGHT * parts["square"] + EDGE_WEIGHT * parts["edges"]} | parts

    averages = fit(arguments, rank, workers, {"back": back}, Recipe(_SEED, PEAK_RATE, warm_up=50, decay=0.998), terms)
    if rank == 0:  # also of a run that was ended after its last step
        back.load_state_dict(averages["back"].values)
        model.eval().register_to_config(_name_or_path="")  # where it was read from is nobody's business
        out = reconstruct(model, kept)
        print(f"{arguments.steps} of {arguments.steps}: reconstruction {psnr(out, kept):.2f} dB", flush=True)
        save_sheet(arguments.state / "decoder.png", torch.stack([kept, out], 1)[:12].flatten(0, 1), columns=8)
        write_part(arguments.out / "vae", lambda folder: model.half().save_pretrained(folder))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.decoder", description=__doc__)
    add_options(parser, steps=6000, batch=6, save_every=100)
    arguments = parser.parse_args()
    launch(train, arguments, arguments.workers)


if __name__ == "__main__":
    main()
