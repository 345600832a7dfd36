"""Checkpoints in diffusers layout: a folder for each part."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .checks import is_tuned
from .files import first_line, read_header, read_json, refuse, shown, weights_file
from .tuned import build_tuned

_CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def load_part(folder: Path, part: str):
    """One module with its weights, in float32, from safetensors or from a `.bin` that holds nothing but tensors."""
    config = read_json(folder, f"{part}/config.json")
    path = weights_file(folder, part)
    if part == "unet" and is_tuned(config):
        return build_tuned(config, read_weights(path), shown(path))
    return load_module(_CLASSES[part], path)


def load_module(make: type, path: Path):
    """The module of class `make` whose weights are in `path`, beside its config.json."""
    if path.suffix == ".safetensors":
        read_header(path)
    else:
        read_weights(path, "meta")
    try:
        module, report = make.from_pretrained(
            path.parent,
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            variant="fp16" if path.stem.endswith(".fp16") else None,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise refuse(f"{shown(path)} does not fit the checkpoint's config.json ({first_line(error)}).") from error
    check_whole(path, report["missing_keys"])
    return module.float()


def check_whole(path: Path, missing) -> None:
    """Refuse weights that lack some of their tensors."""
    if missing := sorted(missing):
        raise refuse(f"{shown(path)} is incomplete: it lacks {len(missing)} tensors, such as {missing[0]}.")


def read_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """All tensors of a file; EditError where it is damaged, or would run code when it is loaded."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device=device)
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise refuse(f"{shown(path)} holds more than tensors, which could run code, or is no checkpoint.") from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise refuse(f"{shown(path)} is damaged or cut short ({first_line(error)}).") from error


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of the checkpoint in `folder`."""
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged vocabulary
        raise refuse(f"The tokenizer of '{folder.name}' cannot be read ({first_line(error)}).") from error
