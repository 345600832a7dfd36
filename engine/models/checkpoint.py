"""Checkpoints in, modules out: the built-in model, a folder in diffusers layout, or a single file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from protocol.models import PROFILE_FILE, Model
from protocol.settings import BUILTIN_MODEL

from ..devices import memory_format
from ..fatezero.profile import Profile, tuned
from ..fatezero.schedule import Schedule
from ..fatezero.temporal import has_temporal_layers
from ..quiet import hush
from .checks import autoencoder_place, check, parts_of
from .digests import Files
from .files import PARTS, first_line, read_json, refuse, weights_file
from .folders import load_folder, load_part
from .lora import files_of, merge
from .single import load_autoencoder, load_single

BUILTIN = BUILTIN_MODEL
BUILTIN_FOLDER = Path(__file__).parent / "builtin"


@dataclass
class Checkpoint:
    """The parts of a latent diffusion model, on one device and in one precision."""

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler_config: dict[str, Any]
    profile: Profile
    image_side: int
    """Side in pixels of the square pictures that the model was trained on."""
    files: Files
    """What it was loaded from, for its digest."""

    @property
    def factor(self) -> int:
        """Pixels to a latent along a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)


def load(model: str | Model, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """Load a model, or the checkpoint at a path, the autoencoder in float32 (but see `Profile.half_autoencoder`).

    EditError with code `checkpoint` names what is at fault, and why.
    """
    hush()
    model = model if isinstance(model, Model) else Model(model)
    check(model)
    path = BUILTIN_FOLDER if model.path == BUILTIN else Path(model.path).expanduser()
    files = Files(_files(model, path))
    if path.is_dir():
        parts = load_folder(path, parts_of(model))
    else:
        parts = load_single(path, parts_of(model), model.prediction)
    if model.vae:
        place = autoencoder_place(model)
        parts["vae"] = load_autoencoder(place) if place.is_file() else load_part(place, "vae")
    for file, weight in model.loras:
        merge(Path(file).expanduser(), weight, parts)
    # In half precision some autoencoders overflow.
    modules = {part: parts.pop(part).to(device, torch.float32 if part == "vae" else dtype).eval() for part in PARTS}
    modules["unet"].to(memory_format=memory_format(device, dtype))
    profile, side = _profile(path, modules["unet"], modules["vae"])
    if profile.half_autoencoder and not model.vae and (device.type, dtype) == ("cpu", torch.bfloat16):
        modules["vae"].to(dtype)
    checkpoint = Checkpoint(
        name=model.path if model.path == BUILTIN else path.name,
        profile=profile,
        image_side=side,
        files=files,
        **parts,
        **modules,
    )
    try:
        Schedule.from_config(checkpoint.scheduler_config, 1)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise refuse(f"The checkpoint '{checkpoint.name}' cannot be sampled ({first_line(error)}).") from error
    return checkpoint


def _files(model: Model, path: Path) -> dict[str, Path]:
    """All files that decide what a model computes, by what they are in it."""
    files = {"": path}
    if path.is_dir():
        folders = [path, *(path / part for part in ("tokenizer", "scheduler", *PARTS))]
        read = [file for folder in folders for file in folder.glob("*") if file.suffix in (".json", ".txt")]
        read += [weights_file(path / part, part) for part in parts_of(model)]
        files = {file.relative_to(path).as_posix(): file for file in read}
    if model.vae:
        place = autoencoder_place(model)
        read = [place] if place.is_file() else [place / "config.json", weights_file(place, "vae")]
        files |= {f"its autoencoder: {file.name}": file for file in read}
    for index, (lora, weight) in enumerate(model.loras):
        file, *beside = files_of(Path(lora).expanduser())
        files[f"LoRA {index} x {weight}"] = file
        files |= {f"LoRA {index}: {other.name}": other for other in beside}
    return files


def _profile(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL) -> tuple[Profile, int]:
    """The folder's own `profile.json`, else Stable Diffusion's, and the side of the training pictures in pixels."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    levels = len(unet.config.block_out_channels)
    side = unet.config.sample_size * factor if isinstance(unet.config.sample_size, int) else None
    profile = Profile()
    if (folder / PROFILE_FILE).is_file():
        values = read_json(folder, PROFILE_FILE)
        try:
            profile = Profile(
                inject_levels=frozenset(values["inject_levels"]),
                mask_level=values["mask_level"],
                mask_places=frozenset(values["mask_places"]),
                anchor_levels=frozenset(values["anchor_levels"]),
                words=frozenset(values["words"]) if "words" in values else None,
                half_autoencoder=values.get("half_autoencoder", False) is True,
            )
        except KeyError as error:
            raise refuse(f"{PROFILE_FILE} of '{folder.name}' lacks {error}.") from error
        side = values.get("image_side", side)
    if side is None:
        raise refuse(f"unet/config.json of '{folder.name}' does not say the size of its pictures (sample_size).")
    if profile.mask_level >= levels:
        raise refuse(
            f"The UNet of '{folder.name}' has {levels} levels, too few to take masks from level {profile.mask_level}."
        )
    return tuned(profile, levels) if has_temporal_layers(unet) else profile, side
