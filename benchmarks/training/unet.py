"""Trains UNet and text encoder together: ``python -m benchmarks.training.unet --data DIR --state DIR --out DIR``.

``--data`` holds pictures and latents, ``--out`` tokenizer and autoencoder already. Run again with the same
``--state`` to go on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .loop import Average, Recipe, Terms, add_options, fit, launch, write_part
from .pictures import FLOOR, OBJECT
from .words import attention_loss, attention_targets, keep_maps, read_captions

UNET = {
    "sample_size": 32,
    "block_out_channels": (48, 64, 96, 128),
    # Unlike Stable Diffusion's, no attention at the latents' own side: FateZero never touches that level's attention,
    # and it takes more than half of a step here.
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 128,
    "attention_head_dim": (1, 2, 3, 4),  # diffusers' name for the number of heads
    "norm_num_groups": 16,
}
TEXT_ENCODER = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 128,
    "max_position_embeddings": 77,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "prediction_type": "v_prediction",
}
PEAK_RATE = 1e-3
EMPTY_CAPTIONS = 0.1
ATTENTION_WEIGHT = 0.03
OBJECT_WEIGHT = 2.0
"""How much more an error counts where an object is than elsewhere: objects are a tenth of the picture, and their shapes
what the model is worst at."""
_SEED = 12


class TrainingSet:
    """Latents, captions and regions of all pictures; ``batch`` draws from them."""

    def __init__(self, data: Path, tokenizer: CLIPTokenizer):
        self.latents = np.load(data / "latents.npy", mmap_mode="r")
        self.regions = np.load(data / "regions.npy", mmap_mode="r")
        self.tokens, self.named = read_captions(data / "captions.json", tokenizer)
        self.empty = np.full(self.tokens.shape[-1], tokenizer.pad_token_id)
        self.empty[0] = tokenizer.bos_token_id

    def batch(self, numbers: np.random.Generator, size: int) -> tuple[torch.Tensor, ...]:
        """Latents (B, 4, h, w), token ids (B, 77), regions the tokens name (B, 77), regions' shares (B, R, 32, 32)."""
        rows = numbers.integers(len(self.latents), size=size)
        which = numbers.integers(self.tokens.shape[1], size=size)
        tokens, named = self.tokens[rows, which].astype(np.int64), self.named[rows, which].copy()
        dropped = numbers.random(size) < EMPTY_CAPTIONS
        tokens[dropped], named[dropped] = self.empty, -1
        arrays = self.latents[rows].astype(np.float32), tokens, named, self.regions[rows].astype(np.float32) / 255
        return tuple(torch.from_numpy(array) for array in arrays)


def make_modules(tokenizer: CLIPTokenizer) -> dict[str, torch.nn.Module]:
    """UNet and text encoder, untrained."""
    special = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    unet = UNet2DConditionModel(**UNET)
    return {"unet": unet, "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER, **special))}


def losses(modules, scheduler: DDIMScheduler, maps: list, batch: tuple, generator) -> dict[str, torch.Tensor]:
    """Mean squared error of the predicted velocity, the same with objects weighted by ``OBJECT_WEIGHT``, and
    ``attention_loss`` of the maps that ``keep_maps`` keeps."""
    latents, tokens, named, regions = batch
    noise = torch.randn(latents.shape, generator=generator)
    # One timestep from each of B equal parts of the schedule: less variance than independent draws.
    size, count = len(latents), scheduler.config.num_train_timesteps
    parts = (torch.arange(size) + torch.rand(size, generator=generator)) / size
    timesteps = (parts * count).long().clamp(max=count - 1)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    maps.clear()
    with torch.autocast("cpu", torch.bfloat16):
        text = modules["text_encoder"](tokens).last_hidden_state
        predicted = modules["unet"](noisy, timesteps, text).sample
    attention = attention_loss(maps, attention_targets(named), regions)
    errors = (predicted.float() - velocity).square().mean(1)
    weights = 1 + OBJECT_WEIGHT * object_shares(regions, errors.shape[-2:])
    return {"velocity": errors.mean(), "weighted": (errors * weights).sum() / weights.sum(), "attention": attention}


def object_shares(regions: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The share of objects (B, h, w) in each of the latents' places, of the shares of all regions (B, R, 32, 32)."""
    return F.adaptive_avg_pool2d(regions[:, OBJECT:FLOOR].sum(1), size)


def at_half_size(batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The same batch with latents of half the side: a third of the work for the first, coarse things to learn."""
    latents, *others = batch
    return F.avg_pool2d(latents, 2), *others


def train(arguments: argparse.Namespace, rank: int, workers: int) -> None:
    torch.manual_seed(_SEED)
    tokenizer = CLIPTokenizer.from_pretrained(arguments.out / "tokenizer")
    scheduler = DDIMScheduler(**SCHEDULER)
    training_set = TrainingSet(arguments.data, tokenizer)
    modules = make_modules(tokenizer)
    if arguments.start:
        take_weights(modules, arguments.start)
    modules["unet"].set_attn_processor(AttnProcessor())  # on a CPU faster backwards than the fused kernel
    maps = keep_maps(modules["unet"])

    def terms(step: int, numbers: np.random.Generator, generator: torch.Generator) -> Terms:
        coarse = step < arguments.coarse_steps
        drawn = training_set.batch(numbers, arguments.batch * (2 if coarse else 1) // workers)
        parts = losses(modules, scheduler, maps, at_half_size(drawn) if coarse else drawn, generator)
        return {"loss": parts["weighted"] + ATTENTION_WEIGHT * parts["attention"]} | parts

    def saved(done: int, averages: dict[str, Average]) -> None:
        export(averages, tokenizer, scheduler, arguments.out)

    recipe = Recipe(_SEED, arguments.rate, warm_up=200, decay=0.995, weight_decay=0.01)
    fit(arguments, rank, workers, modules, recipe, terms, saved)


def take_weights(modules: dict[str, torch.nn.Module], folder: Path) -> None:
    """The weights of a model's folder for modules of the same make."""
    for name, module in modules.items():
        module.load_state_dict(type(module).from_pretrained(folder / name, torch_dtype=torch.float32).state_dict())


def export(averages: dict[str, Average], tokenizer, scheduler: DDIMScheduler, out: Path) -> None:
    """Writes UNet and text encoder (float16), scheduler and ``model_index.json`` beside what lies in ``out``."""
    modules = make_modules(tokenizer)
    for name, module in modules.items():
        module.load_state_dict(averages[name].values)
        write_part(out / name, module.half().save_pretrained)
    write_part(out / "scheduler", scheduler.save_pretrained)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }

    def write_index(folder: Path) -> None:
        (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    write_part(out, write_index)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.unet", description=__doc__)
    add_options(parser, steps=2200, batch=32, save_every=100)
    parser.add_argument("--coarse-steps", type=int, default=800, help="of them, with double batches of half the side")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="learning rate between warm-up and cool-down")
    parser.add_argument("--start", type=Path, help="folder of a model whose weights the training begins with")
    arguments = parser.parse_args()
    launch(train, arguments, arguments.workers)


if __name__ == "__main__":
    main()
