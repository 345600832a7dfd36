"""Checkpoints in diffusers layout as the single files that they were before: diffusers' conversion run backwards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from engine.models.single import FAMILIES

TINY = {
    "unet": {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 64},
    "vae": {"block_out_channels": [32, 32, 32, 32]},
    "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1},
}
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
}  # fmt: skip


def unet(state: Mapping[str, Tensor], layers: int = 2) -> dict[str, Tensor]:
    """A UNet with four levels of `layers` layers."""
    return {f"model.diffusion_model.{_unet_name(name, layers)}": tensor for name, tensor in state.items()}


def _unet_name(name: str, layers: int) -> str:
    for new, old in _UNET.items():
        if name.startswith(f"{new}."):
            return name.replace(new, old)
    place, kind, rest = re.fullmatch(r"(\w+?_blocks?(?:\.\d+)?)\.(\w+)\.(.+)", name).groups()
    index, rest = rest.split(".", 1)
    if kind == "resnets":
        rest = ".".join([_RESNET[rest.split(".")[0]], *rest.split(".")[1:]])
    if place == "mid_block":
        return f"middle_block.{2 * int(index) if kind == 'resnets' else 1}.{rest}"
    side, level = place.split(".")
    level = int(level)
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (level + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{(layers + 1) * level + layers}.{1 if level == 0 else 2}.{rest}"
    position = 0 if kind == "resnets" else 1
    if side == "down_blocks":
        return f"input_blocks.{(layers + 1) * level + int(index) + 1}.{position}.{rest}"
    return f"output_blocks.{(layers + 1) * level + int(index)}.{position}.{rest}"


def vae(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder with four levels; its attention was made of convolutions then."""
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
        name = name.replace("conv_norm_out", "norm_out").replace("group_norm", "norm")
        if found := re.search(r"attn_1\.(to_q|to_k|to_v|to_out\.0)\.", name):
            name = name.replace(found[1], {"to_out.0": "proj_out"}.get(found[1], found[1].removeprefix("to_")))
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        renamed[f"first_stage_model.{name}"] = tensor
    return renamed


def clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder of Stable Diffusion 1.x."""
    return {f"cond_stage_model.transformer.text_model.{name}": tensor for name, tensor in state.items()}


def open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder of Stable Diffusion 2.x, whose last layer is not used: one is put after what is there."""
    layers = 1 + max(int(found[1]) for name in state if (found := re.search(r"layers\.(\d+)\.", name)))
    last = {
        name.replace(f"layers.{layers - 1}.", f"layers.{layers}."): torch.zeros_like(tensor)
        for name, tensor in state.items()
        if f"layers.{layers - 1}." in name
    }
    renamed, joined = {}, {}
    for name, tensor in (state | last).items():
        name = name.replace("embeddings.token_embedding.weight", "token_embedding.weight")
        name = name.replace("embeddings.position_embedding.weight", "positional_embedding")
        name = name.replace("final_layer_norm", "ln_final").replace("encoder.layers", "transformer.resblocks")
        name = name.replace("layer_norm", "ln_").replace("fc1", "c_fc").replace("fc2", "c_proj")
        name = f"cond_stage_model.model.{name.replace('self_attn', 'attn')}"
        if found := re.fullmatch(r"(.+\.attn)\.([qkv])_proj\.(weight|bias)", name):
            joined.setdefault(f"{found[1]}.in_proj_{found[3]}", {})[found[2]] = tensor
        else:
            renamed[name] = tensor
    whole = {name: torch.cat([parts["q"], parts["k"], parts["v"]]) for name, parts in joined.items()}
    width = len(state["final_layer_norm.weight"])
    return renamed | whole | {"cond_stage_model.model.text_projection": torch.eye(width)}


def configs(family: str, tiny: bool = True) -> dict:
    """A family's own configurations, or those of a tiny checkpoint of its shape."""
    values = json.loads((FAMILIES / f"{family}.json").read_text())
    if tiny:
        for part, changes in TINY.items():
            values[part] |= changes
        if family == "sd2":
            values["unet"]["attention_head_dim"] = [1, 1, 1, 1]
    return values


def modules(family: str, tiny: bool = True) -> dict[str, nn.Module]:
    """A family's parts with random weights, the same ones each time."""
    torch.manual_seed(0)
    values = configs(family, tiny)
    return {
        "unet": UNet2DConditionModel.from_config(values["unet"]),
        "vae": AutoencoderKL.from_config(values["vae"]),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**values["text_encoder"])),
    }


def single(parts: dict[str, nn.Module], family: str) -> dict[str, Tensor]:
    """The tensors of a family's parts as one file holds them."""
    text = open_clip if family == "sd2" else clip
    converted = {"unet": unet, "vae": vae, "text_encoder": text}
    state = {}
    for part, module in parts.items():
        state |= converted[part](module.state_dict())
    return {name: tensor.contiguous() for name, tensor in state.items()}
