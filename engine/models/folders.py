"""Checkpoints in diffusers layout: a folder for each part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from .checks import is_tuned
from .files import SCHEDULER_FILE, first_line, is_safetensors, read_header, read_json, refuse, shown, weights_file
from .tuned import build_tuned
from .weights import check_whole, does_not_fit, read_weights

_CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def load_folder(folder: Path, parts: Iterable[str]) -> dict[str, Any]:
    """Tokenizer, scheduler's configuration and the modules named `parts` of the checkpoint in `folder`."""
    return {
        "tokenizer": _tokenizer(folder),
        "scheduler_config": read_json(folder, SCHEDULER_FILE),
        **{part: load_part(folder / part, part) for part in parts},
    }


def load_part(place: Path, part: str):
    """One module with its weights, in float32, from its own folder `place`."""
    config = read_json(place, "config.json")
    path = weights_file(place, part)
    if part == "unet" and is_tuned(config):
        return build_tuned(config, read_weights(path), shown(path))
    if is_safetensors(path):
        read_header(path)
    else:
        read_weights(path, "meta")
    try:
        module, report = _CLASSES[part].from_pretrained(
            place,
            local_files_only=True,
            use_safetensors=is_safetensors(path),
            variant="fp16" if path.stem.endswith(".fp16") else None,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise does_not_fit(shown(path), error) from error
    check_whole(shown(path), report["missing_keys"])
    return module.float()


def _tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged vocabulary
        raise refuse(f"The tokenizer of '{folder.name}' cannot be read ({first_line(error)}).") from error
