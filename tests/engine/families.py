"""Tiny random checkpoints of the shape of each family that people have, in diffusers layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

DATA = Path(__file__).parents[1] / "data"
CROSS = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False)


@dataclass(frozen=True)
class Family:
    """What sets a family apart; everything else is that of Stable Diffusion 1.x."""

    unet: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=lambda: dict(clip_sample=False))
    scheduler_class: type = DDIMScheduler
    pad: str = "<|endoftext|>"


_OPEN_CLIP = dict(hidden_size=24, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, hidden_act="gelu")
_SECOND = dict(cross_attention_dim=24, attention_head_dim=[1, 2, 4, 4], use_linear_projection=True)
FAMILIES = {
    "1.4": Family(scheduler=dict(skip_prk_steps=True), scheduler_class=PNDMScheduler),
    "1.5 with another autoencoder": Family(
        vae=dict(scaling_factor=0.13025, block_out_channels=(4, 8, 8, 8), layers_per_block=2, force_upcast=True)
    ),
    "2.0 base": Family(unet=_SECOND, text=_OPEN_CLIP, pad="!"),
    "2.1": Family(
        unet=_SECOND | dict(upcast_attention=True, sample_size=12),
        text=_OPEN_CLIP,
        scheduler=dict(prediction_type="v_prediction", clip_sample=False),
        pad="!",
    ),
}


def make(folder: Path, family: Family) -> Path:
    """Write the checkpoint; the same family gives the same weights."""
    torch.manual_seed(0)
    parts = {
        "unet": UNet2DConditionModel(
            **dict(
                sample_size=8,
                block_out_channels=(8, 16, 16, 16),
                norm_num_groups=4,
                cross_attention_dim=16,
                attention_head_dim=2,
                down_block_types=CROSS[0],
                up_block_types=CROSS[1],
            )
            | family.unet
        ),
        "vae": AutoencoderKL(
            **dict(
                block_out_channels=(4, 4, 4, 4),
                norm_num_groups=2,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                sample_size=64,
            )
            | family.vae
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                **dict(
                    vocab_size=734,
                    hidden_size=16,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    hidden_act="quick_gelu",
                    bos_token_id=732,
                    eos_token_id=733,
                    pad_token_id=1,
                )
                | family.text
            )
        ),
        "scheduler": family.scheduler_class(**BETAS | family.scheduler),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    shutil.copytree(DATA / "checkpoint" / "tokenizer", folder / "tokenizer")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / "tokenizer" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": family.pad}))
    index = json.loads((DATA / "checkpoint" / "model_index.json").read_text()) | {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "scheduler": ["diffusers", family.scheduler_class.__name__],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def make_tuned(folder: Path) -> Path:
    """The tuned video checkpoint of the authors' layout, made whole with the other parts of the tiny checkpoint."""
    shutil.copytree(DATA / "checkpoint", folder, ignore=shutil.ignore_patterns("unet"))
    shutil.copytree(DATA / "tuned_checkpoint" / "unet", folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["video_diffusion.models.unet_3d_condition", "UNetPseudo3DConditionModel"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
