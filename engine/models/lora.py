"""LoRA files (arXiv 2106.09685) merged into a checkpoint's weights, W += weight · alpha / rank · up · down.

All ways of naming are read: kohya's (`lora_unet_…attn1_to_q.lora_down.weight`, with `.alpha`), that of diffusers
(`unet.….attn1.to_q.lora_A.weight`), and PEFT's own (`base_model.model.….attn1.to_q.lora_A.weight`, with
`adapter_config.json` beside it). Merged weights cost nothing while an edit runs, and need no other library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .files import read_header, refuse
from .weights import read_weights

ADAPTER_CONFIG = "adapter_config.json"
"""Beside a file with PEFT's own names: how strong it is."""
REMEDY = "Use a LoRA made for this checkpoint's family, as a .safetensors file, or leave it away."

_PART = re.compile(r"[._]lora(?:_linear_layer)?[._](down|up|A|B)(?:\.default)?\.weight|\.(alpha)")
_PEFT = "base_model.model."
_EMBEDDINGS = "bundle_emb."
_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    f"{_PEFT}text_model.": "text_encoder",
    _PEFT: "unet",
}
_OTHER_KINDS = {
    "hada_": "a LoHa",
    "lokr_": "a LoKr",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    "lora_mid": "a LoRA in Tucker's form",
    "lora_te2_": "a LoRA for Stable Diffusion XL",
    "text_encoder_2.": "a LoRA for Stable Diffusion XL",
    "transformer.": "a LoRA for transformers such as Stable Diffusion 3's or Flux's",
}
"""Marks in the names of tensors, and what kind of file they make it."""
_OTHER_SCALES = ("use_rslora", "use_dora", "alpha_pattern")
"""Settings of PEFT that make layers' strengths other than one alpha / the layer's own rank."""


@dataclass
class _Change:
    """One layer's low-rank change."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None


def files_of(path: Path) -> list[Path]:
    """All that decides what the LoRA in `path` is: the file, and the configuration beside it where there must be one."""
    beside = path.with_name(ADAPTER_CONFIG)
    return [path, beside] if _is_pefts_own(read_header(path)[0]) and beside.is_file() else [path]


@torch.no_grad()
def merge(path: Path, weight: float, parts: Mapping[str, nn.Module]) -> None:
    """Add the LoRA in `path` to the modules `unet` and `text_encoder` of `parts`, in float32; EditError where it does not fit."""
    changes = _read(path)
    layers = {part: _layers(parts[part]) for part in ("unet", "text_encoder")}
    for (part, name), change in changes.items():
        layer = layers[part].get(name) or layers[part].get(f"{name}_0")  # older files say to_out for to_out.0
        if layer is None:
            raise _refuse(path, f"changes a layer that this checkpoint does not have ({part}: {name})")
        if change.down is None or change.up is None:
            raise _refuse(path, f"is incomplete: half of the change of '{name}' is missing")
        rank = len(change.down)
        try:
            product = change.up.float().flatten(1) @ change.down.float().flatten(1)
            scale = weight * (rank if change.alpha is None else change.alpha) / rank
            layer.weight += scale * product.view_as(layer.weight)
        except RuntimeError as error:
            raise _refuse(
                path, f"is made for a model with other sizes than this checkpoint ({part}: {name})"
            ) from error


def _read(path: Path) -> dict[tuple[str, str], _Change]:
    """Changes by part, and by the layer's name with underscores in place of dots."""
    state = read_weights(path)
    for mark, kind in _OTHER_KINDS.items():
        if any(name.startswith(mark) or (f".{mark}" in name and mark != "transformer.") for name in state):
            raise _refuse(path, f"is {kind}, which cannot be merged here")
    if any(name.startswith(_EMBEDDINGS) for name in state):
        raise _refuse(
            path,
            "comes with embeddings, words of its own that its prompts need, and these are not supported",
            "Save it without embeddings in the program that made it, or use another LoRA.",
        )
    changes: dict[tuple[str, str], _Change] = {}
    for name, tensor in state.items():
        found = _PART.search(name)
        if found is None or found.end() != len(name):
            raise _refuse(path, f"holds a tensor that belongs to no LoRA ('{name}')")
        change = changes.setdefault(_place(name[: found.start()]), _Change())
        match found[1] or found[2]:
            case "down" | "A":
                change.down = tensor
            case "up" | "B":
                change.up = tensor
            case "alpha":
                change.alpha = float(tensor)
    alphas = _configured_alphas(path) if _is_pefts_own(state) else _alphas(path)
    for (part, _), change in changes.items():
        if change.alpha is None:
            change.alpha = alphas.get(part)
    return changes


def _is_pefts_own(names: Iterable[str]) -> bool:
    return any(name.startswith(_PEFT) for name in names)


def _configured_alphas(path: Path) -> dict[str, float]:
    """The alpha of both parts, as PEFT writes it beside the file."""
    try:
        said = json.loads(path.with_name(ADAPTER_CONFIG).read_text(encoding="utf-8"))
        alpha = float(said["lora_alpha"])
    except FileNotFoundError as error:
        raise _refuse(
            path,
            f"does not say how strong it is: {ADAPTER_CONFIG} is not beside it",
            f"Put the {ADAPTER_CONFIG} that it came with into its folder.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _refuse(
            path, f"does not say how strong it is: its {ADAPTER_CONFIG} has no number as lora_alpha"
        ) from error
    _check_scale(path, said)
    return {"unet": alpha, "text_encoder": alpha}


def _check_scale(path: Path, said: Mapping[str, Any], start: str = "") -> None:
    for setting in _OTHER_SCALES:
        if said.get(f"{start}{setting}"):
            raise _refuse(path, f"scales its layers in a way that cannot be merged here ({setting})")


def _alphas(path: Path) -> dict[str, float]:
    """The alpha of each part as diffusers writes it into the metadata; a file without it has alpha = rank."""
    try:
        said = json.loads(read_header(path)[1].get("lora_adapter_metadata", "{}"))
    except ValueError as error:
        raise _refuse(path, "has damaged metadata") from error
    for part in ("unet", "text_encoder"):
        _check_scale(path, said, f"{part}.")
    return {part: float(said[key]) for part in ("unet", "text_encoder") if (key := f"{part}.lora_alpha") in said}


def _place(layer: str) -> tuple[str, str]:
    """The part, and the layer's name in it with underscores, of a layer as a file calls it; the UNet where no part is named."""
    part = "unet"
    for prefix, named in _PREFIXES.items():
        if layer.startswith(prefix):
            layer, part = layer.removeprefix(prefix), named
            break
    flat = layer.replace(".processor", "").replace(".", "_")
    if part == "text_encoder":  # whose layers older files of diffusers call as the UNet's
        flat = re.sub(r"self_attn_to_(q|k|v|out)$", r"self_attn_\1_proj", flat.removeprefix("text_model_"))
    return part, flat


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    return {
        name.replace(".", "_"): layer
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
    }


def _refuse(path: Path, why: str, remedy: str = REMEDY):
    return refuse(f"The LoRA '{path.name}' {why}.", remedy)
