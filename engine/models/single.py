"""Single-file checkpoints of Stable Diffusion 1.x and 2.x: converted by diffusers, configured by this folder's files.

The sizes of the parts are read from the weights; `families/` says the rest, and holds the vocabulary of CLIP, which all
of them share. So nothing is fetched from anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .checks import SINGLE_VAE, check_autoencoder_names, check_names
from .files import is_safetensors, read_header, refuse
from .weights import build, check_whole, does_not_fit, read_weights

FAMILIES = Path(__file__).parent / "families"
UNET, VAE, CLIP, OPEN_CLIP = (
    "model.diffusion_model.", SINGLE_VAE, "cond_stage_model.transformer.", "cond_stage_model.model.",
)  # fmt: skip
_VAE_PARTS = ("encoder", "decoder", "quant_conv", "post_quant_conv")
"""Of an autoencoder's file; others hold what it was trained with."""
_HEAD = 64
"""Channels of an attention head, in both text encoders and in the UNet of Stable Diffusion 2.x."""


def load_single(path: Path, parts: Iterable[str], prediction: str) -> dict[str, Any]:
    """Tokenizer, scheduler's configuration and the modules named `parts` of a `.safetensors` or `.ckpt` file.

    `prediction`: `epsilon` or `v_prediction`, else what the file says.
    """
    state, shapes = _read(path)
    check_names(path.name, shapes, parts)
    prediction = prediction or prediction_of(path, shapes)
    configs = configs_of(shapes, prediction)
    builders = {"unet": _unet, "vae": _vae, "text_encoder": _text_encoder}
    return {
        "tokenizer": clip_tokenizer(configs["pad_token"]),
        "scheduler_config": configs["scheduler"],
        **{part: builders[part](state, configs[part], path.name) for part in parts},
    }


def load_autoencoder(path: Path) -> AutoencoderKL:
    """The autoencoder in a file of its own, or in that of a whole checkpoint."""
    state, shapes = _read(path)
    check_autoencoder_names(path.name, shapes)
    start = VAE if any(name.startswith(VAE) for name in state) else ""
    own = {
        f"{VAE}{name.removeprefix(start)}": tensor
        for name, tensor in state.items()
        if name.startswith(tuple(f"{start}{part}." for part in _VAE_PARTS))
    }
    config = _family("sd1")["vae"]
    config["block_out_channels"] = _vae_widths({name: tuple(tensor.shape) for name, tensor in own.items()})
    return _vae(own, config, path.name)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """A file's tensors, and their shapes, by name."""
    state = read_weights(path)
    if isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    state = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    return state, {name: tuple(tensor.shape) for name, tensor in state.items()}


def prediction_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What the UNet in `path` predicts, by its metadata or the YAML file beside it; EditError where that must be said.

    Stable Diffusion 1.x predicts noise; of 2.x there are both kinds, with equal tensors.
    """
    beside = path.with_suffix(".yaml")
    if beside.is_file():
        said = re.search(r"parameterization:\s*[\"']?(\w+)", beside.read_text(encoding="utf-8", errors="replace"))
        return "v_prediction" if said and said[1] == "v" else "epsilon"
    metadata = read_header(path)[1] if is_safetensors(path) else {}
    if said := metadata.get("modelspec.prediction_type", ""):
        return "v_prediction" if said.startswith("v") else "epsilon"
    if _is_second(shapes):
        raise refuse(
            f"'{path.name}' is a Stable Diffusion 2.x checkpoint and does not say what it predicts.",
            "Add it with --prediction epsilon (512 pixels: 2.0-base, 2.1-base) or v_prediction (768 pixels: 2.0, 2.1).",
        )
    return "epsilon"


def configs_of(shapes: Mapping[str, tuple[int, ...]], prediction: str) -> dict[str, Any]:
    """The configurations of all parts, as a folder in diffusers layout would have them."""
    second = _is_second(shapes)
    configs = _family("sd2" if second else "sd1")
    configs["scheduler"]["prediction_type"] = prediction
    unet, first = configs["unet"], f"{UNET}input_blocks.1.1"
    unet |= {
        "block_out_channels": _widths(
            shapes, UNET, [f"input_blocks.{block}.0.out_layers.3.weight" for block in (1, 4, 7, 10)]
        ),
        "cross_attention_dim": shapes.get(f"{first}.transformer_blocks.0.attn2.to_k.weight", (0, 0))[1],
        "use_linear_projection": len(shapes.get(f"{first}.proj_in.weight", ())) == 2,
        "sample_size": 96 if second and prediction == "v_prediction" else 64,
    }
    if second:
        unet["attention_head_dim"] = [max(1, channels // _HEAD) for channels in unet["block_out_channels"]]
    configs["vae"]["block_out_channels"] = _vae_widths(shapes)
    configs["text_encoder"] |= _text_sizes(shapes, second)
    return configs


def _family(name: str) -> dict[str, Any]:
    return json.loads((FAMILIES / f"{name}.json").read_text(encoding="utf-8"))


def _vae_widths(shapes: Mapping[str, tuple[int, ...]]) -> list[int]:
    return _widths(shapes, VAE, [f"encoder.down.{level}.block.0.conv1.weight" for level in range(4)])


def _widths(shapes: Mapping[str, tuple[int, ...]], start: str, names: Iterable[str]) -> list[int]:
    """Channels that come out of those convolutions that are there."""
    return [shapes[start + name][0] for name in names if start + name in shapes]


def _text_sizes(shapes: Mapping[str, tuple[int, ...]], second: bool) -> dict[str, int]:
    names = r"model\.transformer\.resblocks\.(\d+)\.mlp\.c_fc" if second else r".*encoder\.layers\.(\d+)\.mlp\.fc1"
    layers = [re.fullmatch(rf"cond_stage_model\.{names}\.weight", name) for name in shapes]
    layers = [found for found in layers if found]
    widest, hidden = shapes[layers[0].string] if layers else (0, 0)
    return {
        "hidden_size": hidden,
        "intermediate_size": widest,
        "num_attention_heads": max(1, hidden // _HEAD),
        "num_hidden_layers": len(layers) - second,  # 2.x takes what the last but one gives
    }


def clip_tokenizer(pad_token: str) -> CLIPTokenizer:
    """CLIP's tokenizer: its vocabulary is the bytes, the bytes that end a word, and the merges, in this order."""
    merges = (FAMILIES / "merges.txt").read_text(encoding="utf-8").split("\n")[:-1]
    letters = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(letters)  # bytes that are no visible letter are shown as ones above them
    alphabet = [chr(code) for code in (*letters, *range(256, 256 + others))]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[tuple(merge.split()) for merge in merges],
        pad_token=pad_token,
        model_max_length=77,
    )


def _is_second(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether the text encoder is OpenCLIP's, as in Stable Diffusion 2.x."""
    return any(name.startswith(OPEN_CLIP) for name in shapes)


def _unet(state: Mapping[str, Tensor], config: dict[str, Any], file: str) -> UNet2DConditionModel:
    return build(UNet2DConditionModel, config, convert_ldm_unet_checkpoint(state, config), file)


def _vae(state: Mapping[str, Tensor], config: dict[str, Any], file: str) -> AutoencoderKL:
    own = {name: tensor for name, tensor in state.items() if name.startswith(VAE)}
    return build(AutoencoderKL, config, convert_ldm_vae_checkpoint(own, config), file)


def _text_encoder(state: Mapping[str, Tensor], config: dict[str, Any], file: str) -> CLIPTextModel:
    model = CLIPTextModel(CLIPTextConfig(**config))
    if any(name.startswith(OPEN_CLIP) for name in state):
        converted = convert_open_clip_checkpoint(model, state, OPEN_CLIP)
    else:
        converted = convert_ldm_clip_checkpoint(state)
    wanted = model.state_dict().keys()
    named = {name.removeprefix("text_model."): tensor.float() for name, tensor in converted.items()}
    try:
        lacking, _ = model.load_state_dict({name: named[name] for name in wanted & named.keys()}, strict=False)
    except RuntimeError as error:
        raise does_not_fit(file, error) from error
    check_whole(file, lacking)
    return model
