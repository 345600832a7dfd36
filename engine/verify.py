"""Replays a case file of the authors' program against the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import EditError
from .fatezero.blending import Blend, attention_mask
from .fatezero.frames import TemporalSettings
from .fatezero.method import EditPlan, Inversion, edit, invert
from .fatezero.schedule import Schedule
from .fatezero.unet import FateZeroUNet
from .models.checkpoint import load
from .models.text import embed, read_prompt


@dataclass(frozen=True)
class Verification:
    """How far the engine is from a case's numbers."""

    inversion_max_abs_error: float
    edited_relative_error: float
    """L2."""
    mask_disagreement: float
    """Share of pixels, over all masks of the case."""
    seconds: float
    attention_bytes: int
    """The most that was held for attention at one time."""


def verify(case: Path, checkpoint: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Verification:
    """Replay `case` with `checkpoint`; EditError where either cannot be used."""
    description, tensors = read_case(case)
    model = load(str(checkpoint), torch.device(device), dtype)
    settings = description.get("model_config", {})
    least = settings.get("least_sc_channel", 0)
    channels = model.unet.config.block_out_channels
    anchors = frozenset(level for level, width in enumerate(channels) if width >= least)
    unet = FateZeroUNet(model.unet, replace(model.profile, anchor_levels=anchors))
    schedule = Schedule.from_config(model.scheduler_config, description["steps"])
    temporal = TemporalSettings(
        keys=tuple(str(key) for key in settings.get("SparseCausalAttention_index", (-1, "first"))), pooled_norm=True
    )
    prompts = {name: read_prompt(model, description.get(name, "")) for name in ("source", "target", "empty")}
    embeddings = {name: embed(model, prompt) for name, prompt in prompts.items()}
    plan = read_plan(description, prompts["source"], prompts["target"])

    started = time.perf_counter()
    inversion = Inversion(latents=[tensors["latents"].to(device)])
    for _ in invert(unet, schedule, inversion, prompts["source"], embeddings["source"], temporal):
        pass
    disagreements, held = [], inversion.peak_attention_bytes
    for state in edit(unet, schedule, inversion, plan, embeddings, temporal):
        held = max(held, state.attention_bytes)
        if state.latent_masks and "latent_masks" in tensors:  # recorded: the source words' share of the mask
            disagreements.append(_differing(state.latent_masks[0], tensors["latent_masks"][state.step]))
    seconds = time.perf_counter() - started
    disagreements += attention_mask_disagreements(unet, plan, inversion, tensors)
    counted = sum(count for _, count in disagreements)
    return Verification(
        inversion_max_abs_error=_max_abs(torch.stack(inversion.latents), tensors["inversion"]),
        edited_relative_error=_relative(state.latents, tensors["edited"]),
        mask_disagreement=sum(wrong for wrong, _ in disagreements) / counted if counted else 0.0,
        seconds=seconds,
        attention_bytes=held + sum(part.nbytes for part in inversion.maps),
    )


def read_case(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """A case file's description and tensors; EditError with code `case` where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})["case"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        lacking = {"source", "target", "steps", "p2p"} - description.keys() | {
            "latents",
            "inversion",
            "edited",
        } - tensors.keys()
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise EditError("case", f"'{path}' is no case file ({error}).", "Give one of tests/data/cases.") from error
    if lacking:
        raise EditError("case", f"The case '{path.name}' lacks {', '.join(sorted(lacking))}.", "Export it whole.")
    return description, tensors


def read_plan(description: dict, source, target) -> EditPlan:
    """The case's settings, in the authors' words, as an `EditPlan`."""
    p2p = description["p2p"]
    windows = p2p.get("cross_replace_steps", 0.8)
    windows = dict(windows) if isinstance(windows, dict) else {"default_": windows}
    equalizer = p2p.get("eq_params") or {"words": [], "values": []}
    blend = None
    if p2p.get("blend_words"):
        source_words, target_words = p2p["blend_words"]
        blend = Blend(
            source_words=tuple(_words(source_words)),
            target_words=tuple(_words(target_words)),
            threshold=_first(p2p.get("blend_th", 0.3)),
            attention=bool(p2p.get("blend_self_attention", False)),
            latents=bool(p2p.get("blend_latents", False)),
        )
    return EditPlan(
        source=source,
        target=target,
        guidance=description.get("guidance", 7.5),
        replace=bool(p2p.get("is_replace_controller", False)),
        cross_window=_window(windows.pop("default_", 1.0)),
        word_windows={word: _window(window) for word, window in windows.items()},
        word_weights=dict(zip(equalizer["words"], equalizer["values"])),
        self_window=_window(p2p.get("self_replace_steps", 0.0)),
        blend=blend,
    )


def attention_mask_disagreements(
    unet: FateZeroUNet, plan: EditPlan, inversion: Inversion, tensors: dict[str, Tensor]
) -> Iterable[tuple[int, int]]:
    """(pixels that differ, pixels) of each recorded blend mask of the first and last step with injected self-attention."""
    steps = plan.self_steps(inversion.steps)
    sizes = unet.sizes(inversion.latents[0])
    for name, expected in tensors.items():
        if not name.startswith("attn_mask_"):
            continue
        step = steps[0] if name.startswith("attn_mask_first") else steps[-1]
        mask_of = attention_mask(unet, plan, inversion.maps[inversion.steps - 1 - step], sizes)
        level = next(level for level, size in enumerate(sizes) if size == tuple(expected.shape[-2:]))
        mask = mask_of(level) if mask_of else torch.zeros(len(expected), expected[0].numel())
        yield _differing(mask, expected)


def report(result: Verification) -> str:
    """The figures, a line each."""
    return "\n".join(f"{name.replace('_', ' '):26} {value:.3g}" for name, value in asdict(result).items())


def _differing(mask: Tensor, expected: Tensor) -> tuple[int, int]:
    expected = expected.to(mask.device).reshape(mask.shape) > 0.5
    return int((mask.bool() != expected).sum()), mask.numel()


def _max_abs(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu() - expected).abs().max())


def _relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.cpu() - expected).norm() / expected.norm())


def _window(value) -> tuple[float, float]:
    return (0.0, float(value)) if isinstance(value, (int, float)) else (float(value[0]), float(value[1]))


def _first(value) -> float:
    return float(value) if isinstance(value, (int, float)) else float(value[0])


def _words(value) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
