"""Modules of Stable Diffusion 1.5's shape with random weights: as fast as the real ones, and as large."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..fatezero.profile import Profile
from .checkpoint import BUILTIN_FOLDER, Checkpoint
from .digests import Files

RANDOM_SD15 = "random-sd15"


def random_sd15(device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """The checkpoint, made on `device`, with the built-in model's words; its pictures mean nothing."""
    with torch.device(device):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=512,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
    return Checkpoint(
        name=RANDOM_SD15,
        tokenizer=CLIPTokenizer.from_pretrained(BUILTIN_FOLDER / "tokenizer"),
        text_encoder=text_encoder.to(dtype).eval(),
        vae=vae.eval(),
        unet=unet.to(dtype).eval(),
        scheduler_config=dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        profile=Profile(),
        image_side=512,
        files=Files({}),
    )
