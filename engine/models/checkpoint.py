"""Checkpoints in, modules out: a Stable Diffusion folder in diffusers layout, or the built-in model."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from ..errors import EditError
from ..fatezero.profile import Profile
from ..quiet import hush
from .digests import Files

BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parent / "builtin"
PROFILE_FILE = "profile.json"

_WEIGHTS = {
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
}
_CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
_REMEDY = "Give the folder of a Stable Diffusion 1.x checkpoint in diffusers layout, or use the built-in model."


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


def load(model: str, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """Load `builtin` or a folder, the autoencoder always in float32; EditError with code `checkpoint` names the file at fault and why."""
    hush()
    folder = BUILTIN_FOLDER if model == BUILTIN else Path(model).expanduser()
    if not folder.is_dir():
        raise _refuse(f"There is no checkpoint folder '{folder}'.")
    index = _read_json(folder, "model_index.json")
    for part, expected in (
        ("unet", "UNet2DConditionModel"),
        ("vae", "AutoencoderKL"),
        ("text_encoder", "CLIPTextModel"),
    ):
        named = (index.get(part) or [None, None])[1]
        if named != expected:
            raise _refuse(f"The checkpoint '{folder.name}' has '{named}' as its {part}, where {expected} is needed.")
    files = Files(folder, _files(folder))
    # In half precision some autoencoders overflow.
    parts = {
        part: _load_part(folder, part).to(device, torch.float32 if part == "vae" else dtype).eval() for part in _CLASSES
    }
    _check_make(folder, **parts)
    unet, vae = parts["unet"], parts["vae"]
    profile, side = _profile(folder, unet, vae)
    return Checkpoint(
        name=model if model == BUILTIN else folder.name,
        tokenizer=_tokenizer(folder),
        scheduler_config=_read_json(folder, "scheduler/scheduler_config.json"),
        profile=profile,
        image_side=side,
        files=files,
        **parts,
    )


def _load_part(folder: Path, part: str):
    """One module with its weights, from safetensors or from a `.bin` that holds nothing but tensors."""
    _read_json(folder, f"{part}/config.json")
    path = _weights(folder, part)
    if path is None:
        raise _refuse(f"The checkpoint '{folder.name}' lacks {part}/{_WEIGHTS[part][0]}.")
    _check_weights(path)
    try:
        module, report = _CLASSES[part].from_pretrained(
            folder / part,
            local_files_only=True,
            use_safetensors=path.suffix == ".safetensors",
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _refuse(f"{_shown(path)} does not fit the checkpoint's config.json ({_first_line(error)}).") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise _refuse(f"{_shown(path)} is incomplete: it lacks {len(missing)} tensors, such as {missing[0]}.")
    return module


def _weights(folder: Path, part: str) -> Path | None:
    """The file that a part's weights are taken from, if there is one."""
    return next((folder / part / name for name in _WEIGHTS[part] if (folder / part / name).is_file()), None)


def _files(folder: Path) -> list[Path]:
    """All files that decide what the checkpoint computes."""
    weights = [path for part in _CLASSES if (path := _weights(folder, part))]
    folders = [folder, *(folder / part for part in ("tokenizer", "scheduler", *_CLASSES))]
    return weights + [path for part in folders for path in part.glob("*") if path.suffix in (".json", ".txt")]


def _check_make(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, text_encoder: CLIPTextModel) -> None:
    """Refuse models of other kinds whose parts go by the same names (SDXL, inpainting)."""
    config = unet.config
    channels = (config.in_channels, config.out_channels, vae.config.latent_channels)
    if channels != (4, 4, 4):
        raise _refuse(f"The UNet of '{folder.name}' takes {channels[0]} channels, where Stable Diffusion 1.x takes 4.")
    width, given = config.cross_attention_dim, text_encoder.config.hidden_size
    if config.addition_embed_type is not None or width != given:
        raise _refuse(
            f"The UNet of '{folder.name}' needs more than one text encoder's {given} features (as SDXL does)."
        )


def _check_weights(path: Path) -> None:
    """Refuse a file that is damaged, or that would run code when it is loaded."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as weights:
                weights.keys()
        else:
            torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refuse(f"{_shown(path)} holds more than tensors, which could run code, or is no checkpoint.") from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise _refuse(f"{_shown(path)} is damaged or cut short ({_first_line(error)}).") from error


def _tokenizer(folder: Path) -> CLIPTokenizer:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / "tokenizer" / name).is_file():
            raise _refuse(f"The checkpoint '{folder.name}' lacks tokenizer/{name}.")
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged vocabulary
        raise _refuse(f"The tokenizer of '{folder.name}' cannot be read ({_first_line(error)}).") from error


def _profile(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL) -> tuple[Profile, int]:
    """The folder's own `profile.json`, else Stable Diffusion's, and the side of the training pictures in pixels."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    side = unet.config.sample_size * factor if isinstance(unet.config.sample_size, int) else None
    if not (folder / PROFILE_FILE).is_file():
        if side is None:
            raise _refuse(f"unet/config.json of '{folder.name}' does not say the size of its pictures (sample_size).")
        return Profile(), side
    values = _read_json(folder, PROFILE_FILE)
    try:
        profile = Profile(
            inject_levels=frozenset(values["inject_levels"]),
            mask_level=values["mask_level"],
            mask_places=frozenset(values["mask_places"]),
            anchor_levels=frozenset(values["anchor_levels"]),
        )
        return profile, values.get("image_side", side)
    except KeyError as error:
        raise _refuse(f"{PROFILE_FILE} of '{folder.name}' lacks {error}.") from error


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _refuse(f"The checkpoint '{folder.name}' lacks {name}.") from error
    except (OSError, ValueError) as error:
        raise _refuse(f"{name} of the checkpoint '{folder.name}' cannot be read ({_first_line(error)}).") from error


def _shown(path: Path) -> str:
    """A weights file as people know it: checkpoint, part, file."""
    return "/".join(path.parts[-3:])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _refuse(sentence: str) -> EditError:
    return EditError("checkpoint", sentence, _REMEDY)
