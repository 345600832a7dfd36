"""Looks at a trained model: ``python -m benchmarks.training.evaluate --data DIR --model DIR --out DIR``.

``--data`` holds held-out clips (``python -m benchmarks.world --held-out``). Writes a sheet of samples, a sheet of
reconstructions with the words' maps, and ``evaluation.json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from ..world import spec
from ..world.compose import compose_frame, load_passes, object_mask
from .autoencoder import psnr, to_model
from .sheets import save_sheet
from .words import keep_maps

GUIDANCE = 5.0
THRESHOLD = 0.3  # of the method's masks


class Model:
    """The parts of a checkpoint folder in float32, and what DDIM does with them."""

    def __init__(self, folder: Path, steps: int):
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").float().eval()
        self.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.scheduler.set_timesteps(steps)
        self.maps = keep_maps(self.unet)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids).last_hidden_state

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(images).latent_dist.mean * self.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample.clamp(-1, 1)

    def denoise(self, latents: torch.Tensor, text: torch.Tensor, guidance: float) -> torch.Tensor:
        """DDIM from noise (B, 4, h, w) to clean latents."""
        empty = self.encode_text([""]).expand_as(text)
        for timestep in self.scheduler.timesteps:
            predicted = self.unet(latents, timestep, text).sample
            if guidance != 1:
                unguided = self.unet(latents, timestep, empty).sample
                predicted = unguided + guidance * (predicted - unguided)
            latents = self.scheduler.step(predicted, timestep, latents).prev_sample
            self.maps.clear()
        return latents

    def invert(self, latents: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
        """DDIM inversion: the noise, and per level's side the mean map (B, side, side, tokens) over layers and steps."""
        sums: dict[int, list[torch.Tensor]] = {}
        stride = self.scheduler.config.num_train_timesteps // len(self.scheduler.timesteps)
        alphas = self.scheduler.alphas_cumprod
        for timestep in reversed(self.scheduler.timesteps.tolist()):
            lower = timestep - stride
            low = alphas[lower] if lower >= 0 else self.scheduler.final_alpha_cumprod
            high = alphas[timestep]
            velocity = self.unet(latents, timestep, text).sample
            # As the engine does, the prediction at the higher timestep is read at the lower one's noise level.
            noise = high.sqrt() * velocity + (1 - high).sqrt() * latents
            clean = (latents - (1 - low).sqrt() * noise) / low.sqrt()
            latents = high.sqrt() * clean + (1 - high).sqrt() * noise
            for attention in self.maps:
                side = int(attention.shape[1] ** 0.5)
                sums.setdefault(side, []).append(attention.unflatten(1, (side, side)))
            self.maps.clear()
        return latents, {side: torch.stack(maps).mean(0) for side, maps in sums.items()}


def word_mask_iou(attention: torch.Tensor, truth: np.ndarray) -> float:
    """IoU of a word's map (side, side), cut at THRESHOLD of its maximum, with a pixel mask's share in each place."""
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(truth)[None].float(), attention.shape[0])[0] > 0.5
    mask = attention / attention.max() > THRESHOLD
    return float((mask & pooled).sum() / (mask | pooled).sum().clamp(min=1))


def sample_captions() -> list[str]:
    """Each colour and each shape once or more; the last row shows held-out pairs."""
    floors, skies = spec.FLOORS, spec.SKIES
    scenes = []
    for n, colour in enumerate(spec.COLOURS * 2):
        shape = [s for s in spec.SHAPES if colour in spec.allowed_colours(s)][(n * 2 + n // 8) % 5]
        scenes.append(spec.Scene((spec.Thing(shape, colour),), floors[n % 5], skies[n % 3]))
    for n, (colour, shape) in enumerate(sorted(spec.HELD_OUT_PAIRS)):
        scenes.append(spec.Scene((spec.Thing(shape, colour),), floors[n % 5], "day"))
    pair = (spec.Thing("cube", "red"), spec.Thing("sphere", "cyan"))
    scenes += [
        spec.Scene(pair, "wood", "day"),
        spec.Scene(pair[::-1], "sand", "day"),
        spec.Scene(pair, "snow", "night"),
    ]
    return [spec.caption(scene) for scene in scenes]


@torch.no_grad()
def evaluate(model: Model, data: Path, out: Path) -> dict[str, float]:
    """Mean figures over the held-out clips' first frames: PSNRs in dB, IoUs of the words' maps."""
    generator = torch.Generator().manual_seed(0)
    captions = sample_captions()
    noise = torch.randn(len(captions), 4, 32, 32, generator=generator)
    latents = model.denoise(noise, model.encode_text(captions), GUIDANCE)
    save_sheet(out / "samples.png", model.decode(latents), columns=8)

    scenes, images, masks = [], [], []
    for folder in sorted(path.parent for path in data.glob("held_out_*/passes.npz")):
        scene = spec.sample_scene(int(folder.name.rsplit("_", 1)[1]), held_out=True)
        passes = load_passes(folder)
        scenes.append(scene)
        images.append(compose_frame(passes, scene, 0))
        masks.append([object_mask(passes, index)[0] for index in range(len(scene.objects))])
    images = to_model(np.stack(images))
    texts = [spec.caption(scene) for scene in scenes]
    encoded = model.encode(images)
    text = model.encode_text(texts)
    inverted, maps = model.invert(encoded, text)
    ceiling, back = model.decode(encoded), model.decode(model.denoise(inverted, text, 1.0))
    figures: dict[str, list[float]] = {}
    for row, scene in enumerate(scenes):
        words = texts[row].split()
        for side, attention in maps.items():
            for thing, mask in zip(scene.objects, masks[row], strict=True):
                for kind, word in (("colour", thing.colour), ("noun", thing.shape)):
                    iou = word_mask_iou(attention[row, ..., 1 + words.index(word)], mask)
                    figures.setdefault(f"{kind}_iou_{side}x{side}", []).append(iou)
    side = max(maps)
    nouns = [maps[side][row, ..., 1 + texts[row].split().index(s.objects[0].shape)] for row, s in enumerate(scenes)]
    shown = torch.stack([noun / noun.max() for noun in nouns])[:, None].expand(-1, 3, -1, -1) * 2 - 1
    shown = F.interpolate(shown, images.shape[-1])
    rows = torch.stack([images, ceiling, back, shown], 1).flatten(0, 1)
    save_sheet(out / "reconstructions.png", rows, columns=8)
    result = {name: round(float(np.mean(values)), 3) for name, values in sorted(figures.items())}
    result |= {
        "autoencoder_psnr": round(psnr(ceiling, images), 2),
        "reconstruction_psnr": round(psnr(back, images), 2),
        "inverted_std": round(float(inverted.std()), 3),
        "clips": len(scenes),
    }
    (out / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20, help="of DDIM")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = evaluate(Model(arguments.model, arguments.steps), arguments.data, arguments.out)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
