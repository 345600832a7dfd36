"""What cannot work, refused by name and reason from configurations and names alone: in an instant, and without torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from protocol.models import Model, base_of
from protocol.settings import BUILTIN_MODEL

from .files import (
    PARTS,
    SCHEDULER_FILE,
    VOCABULARY_FILES,
    is_safetensors,
    lacks,
    read_header,
    read_json,
    refuse,
    weights_file,
)

TUNED_CLASSES = ("UNetPseudo3DConditionModel", "UNet3DConditionModel")
"""UNets of tuned video checkpoints, by the names that the programs which made them have for them."""

VAE_REMEDY = "Give an autoencoder of Stable Diffusion 1.x or 2.x, as a folder in diffusers layout or a single file."
SINGLE_VAE = "first_stage_model."
"""How the names of an autoencoder's tensors begin in single files of whole checkpoints."""

_CLASSES = {
    "unet": ("UNet2DConditionModel", *TUNED_CLASSES),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
}
_BLOCKS = re.compile(r"(CrossAttn)?(Down|Up)Block2D|UNetMidBlock2DCrossAttn")
_CHANNELS = {
    5: "it takes a depth map beside the picture",
    7: "it makes pictures larger",
    8: "it follows instructions (InstructPix2Pix)",
    9: "it is made for inpainting",
    16: "it is of Stable Diffusion 3's or Flux's generation",
}
"""Why a UNet or autoencoder takes that many channels."""
_NEEDS_MORE = {
    "addition_embed_type": "more than one text encoder's features (as Stable Diffusion XL does)",
    "encoder_hid_dim_type": "features of pictures or of another text encoder",
    "class_embed_type": "a class beside the prompt",
    "num_class_embeds": "a noise level or class beside the prompt",
    "time_cond_proj_dim": "the guidance as an input, as distilled models do",
    "only_cross_attention": "the prompt in place of its self-attention",
    "dual_cross_attention": "two prompts",
}
"""Fields of a UNet's configuration, and what a UNet needs where one is set."""


def check(model: Model) -> None:
    """Refuse a model that cannot work (EditError with code `checkpoint`), as far as that is known without its weights."""
    if model.path != BUILTIN_MODEL:
        path = Path(model.path).expanduser()
        if path.is_dir():
            check_folder(path)
        elif not path.is_file():
            raise refuse(f"There is no checkpoint folder or file '{path}'.")
        elif is_safetensors(path):
            check_names(path.name, read_header(path)[0], parts_of(model))
        elif path.suffix.lower() != ".ckpt":
            raise refuse(f"'{path.name}' is neither a .safetensors nor a .ckpt file.")
    if model.vae:
        place = autoencoder_place(model)
        if not place.is_file():
            check_autoencoder(place.name, read_json(place, "config.json"))
            weights_file(place, "vae")
        elif is_safetensors(place):
            check_autoencoder_names(place.name, read_header(place)[0])
        elif place.suffix.lower() not in (".ckpt", ".pt"):
            raise refuse(
                f"'{place.name}' is no autoencoder: neither a .safetensors nor a .ckpt or .pt file.", VAE_REMEDY
            )
    for file, weight in ((Path(file).expanduser(), weight) for file, weight in model.loras):
        if not file.is_file() or not is_safetensors(file):
            raise refuse(
                f"There is no .safetensors file '{file}' to be merged as a LoRA.", "Check its path, or leave it out."
            )
        if not math.isfinite(weight):
            raise refuse(f"The LoRA '{file.name}' has the weight {weight}.", "Give a number, such as 0.7.")
        read_header(file)


def parts_of(model: Model) -> tuple[str, ...]:
    """The parts that the checkpoint itself must hold: not the autoencoder where another one stands in for it."""
    return tuple(part for part in PARTS if part != "vae" or not model.vae)


def autoencoder_place(model: Model) -> Path:
    """Where the autoencoder is that stands in for the checkpoint's own: a folder of its own, or another checkpoint's, or a
    single file."""
    folder = Path(model.vae).expanduser()
    return folder / "vae" if (folder / "vae").is_dir() else folder


def check_folder(folder: Path) -> None:
    """Refuse a folder in diffusers layout for its parts, configurations and files."""
    check_configurations(folder)
    for part in PARTS:
        path = weights_file(folder / part, part)
        if is_safetensors(path):
            read_header(path)


def check_configurations(folder: Path) -> None:
    """Refuse a folder in diffusers layout for everything but its weights, which need not be there yet."""
    index = read_json(folder, "model_index.json")
    make = index.get("_class_name", "an unknown pipeline")
    if _named(index, "text_encoder_2") is not None:
        raise refuse(
            f"The checkpoint '{folder.name}' needs two text encoders, as Stable Diffusion XL does (it is of {make})."
        )
    for part, expected in _CLASSES.items():
        if _named(index, part) not in expected:
            raise refuse(
                f"The checkpoint '{folder.name}' has '{_named(index, part)}' as its {part}, where {expected[0]} is "
                f"needed (it is of {make})."
            )
    configs = {part: read_json(folder / part, "config.json") for part in PARTS}
    check_unet(folder.name, configs["unet"], configs["text_encoder"])
    check_autoencoder(folder.name, configs["vae"])
    check_scheduler(folder.name, read_json(folder, SCHEDULER_FILE))
    for name in VOCABULARY_FILES:
        if not (folder / name).is_file():
            raise lacks(folder, name)


def tuned_already(model: Model) -> bool:
    """Whether a model was tuned on a clip, as far as its folder's configurations say so."""
    folder = Path(model.path).expanduser()
    if base_of(model):
        return True
    return model.path != BUILTIN_MODEL and folder.is_dir() and is_tuned(read_json(folder / "unet", "config.json"))


def is_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a UNet's configuration is that of a tuned video checkpoint."""
    return config.get("_class_name") in TUNED_CLASSES


def as_image_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A tuned UNet's configuration with its blocks named as diffusers names those of an image model."""
    flat = {
        key: [_flat(name) for name in value] if key.endswith("block_types") else value for key, value in config.items()
    }
    flat["mid_block_type"] = _flat(config.get("mid_block_type") or "UNetMidBlock2DCrossAttn")
    return flat | {"_class_name": "UNet2DConditionModel"}


def as_tuned_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """An image model's configuration with its class and blocks named as those of a tuned video checkpoint."""
    renamed = {
        key: [block.replace("2D", "Pseudo3D") for block in value] if key.endswith("block_types") else value
        for key, value in config.items()
        if key not in ("_name_or_path", "_use_default_values")  # the second's order is another one in every process
    }
    renamed["mid_block_type"] = "UNetMidBlockPseudo3DCrossAttn"
    return renamed | {"_class_name": TUNED_CLASSES[0]}


def check_unet(name: str, config: Mapping[str, Any], text_config: Mapping[str, Any]) -> None:
    """Refuse UNets of other makes that go by the same class (SDXL, inpainting, distilled and conditioned ones)."""
    if is_tuned(config):
        config = as_image_config(config)
    for field in ("in_channels", "out_channels"):
        if (channels := config.get(field, 4)) != 4:
            raise refuse(
                f"The UNet of '{name}' takes {channels} channels, where Stable Diffusion takes 4{_why(channels)}."
            )
    for field, need in _NEEDS_MORE.items():
        value = config.get(field)
        if any(value) if isinstance(value, list) else value:
            raise refuse(f"The UNet of '{name}' needs {need} ({field} is set).")
    blocks = [*config.get("down_block_types", ()), *config.get("up_block_types", ()), config.get("mid_block_type")]
    for block in blocks:
        if block is not None and not _BLOCKS.fullmatch(block):
            raise refuse(f"The UNet of '{name}' has blocks of the kind '{block}', which Stable Diffusion has not.")
    width, given = config.get("cross_attention_dim", 1280), text_config.get("hidden_size", 512)
    if width != given:
        raise refuse(f"The UNet of '{name}' needs a text encoder of {width} features, and its own has {given}.")


def check_autoencoder(name: str, config: Mapping[str, Any]) -> None:
    """Refuse autoencoders whose latents are not Stable Diffusion's."""
    make = config.get("_class_name", "AutoencoderKL")
    if make not in _CLASSES["vae"]:
        raise refuse(f"The autoencoder of '{name}' is of the kind '{make}', where AutoencoderKL is needed.")
    if (channels := config.get("latent_channels", 4)) != 4:
        raise refuse(
            f"The autoencoder of '{name}' has {channels} channels, where Stable Diffusion has 4{_why(channels)}."
        )
    for field in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(field):
            raise refuse(f"The autoencoder of '{name}' shifts its latents ({field}), which Stable Diffusion does not.")


def check_autoencoder_names(name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a single file that is no autoencoder of Stable Diffusion's, for the names and shapes of its tensors."""
    if any(".down_blocks." in key for key in shapes):
        raise refuse(
            f"'{name}' is named as in diffusers layout, where config.json belongs to it.",
            "Give the folder that it is in.",
        )
    start = SINGLE_VAE if any(key.startswith(SINGLE_VAE) for key in shapes) else ""
    decoder = shapes.get(f"{start}decoder.conv_in.weight")
    if decoder is None or f"{start}encoder.down.0.block.0.conv1.weight" not in shapes:
        raise refuse(f"'{name}' holds no whole autoencoder of Stable Diffusion 1.x or 2.x.", VAE_REMEDY)
    if (channels := decoder[1]) != 4:
        raise refuse(
            f"The autoencoder '{name}' has {channels} channels, where Stable Diffusion has 4{_why(channels)}.",
            VAE_REMEDY,
        )


def check_scheduler(name: str, config: Mapping[str, Any]) -> None:
    """Refuse schedules that DDIM cannot invert, and models that predict neither noise nor velocity."""
    if config.get("rescale_betas_zero_snr"):
        raise refuse(
            f"The noise of '{name}' leaves no signal at the last timestep (rescale_betas_zero_snr), where no inversion "
            "can begin."
        )
    prediction = config.get("prediction_type", "epsilon")
    make = config.get("_class_name", "")
    if prediction not in ("epsilon", "v_prediction") or make.startswith(("Flow", "EDM")):
        raise refuse(
            f"The checkpoint '{name}' predicts '{prediction}' ({make or 'scheduler_config.json'}), neither noise nor "
            "velocity as DDIM needs it."
        )


_MARKS = {
    "conditioner.embedders.": "it is a Stable Diffusion XL model",
    "model.diffusion_model.joint_blocks.": "it is a Stable Diffusion 3 model",
    "model.diffusion_model.double_blocks.": "it is a Flux model",
    "double_blocks.": "it is a Flux model",
    "control_model.": "it is a ControlNet",
    "lora_": "it is a LoRA, which is added to a checkpoint",
}
"""How the names in single files begin, and what that makes them."""
_HOLDS = {
    "unet": ("model.diffusion_model.input_blocks.0.0.weight",),
    "vae": (SINGLE_VAE,),
    "text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model."),
}


def check_names(name: str, shapes: Mapping[str, tuple[int, ...]], parts: Iterable[str]) -> None:
    """Refuse a single file for the names and shapes of its tensors; `parts` are those that it must hold."""
    for start, why in _MARKS.items():
        if any(key.startswith(start) for key in shapes):
            raise refuse(f"'{name}' is no Stable Diffusion 1.x or 2.x checkpoint: {why}.")
    for part in parts:
        if not any(key.startswith(_HOLDS[part]) for key in shapes):
            raise refuse(f"'{name}' holds no {part} of Stable Diffusion 1.x or 2.x.")
    channels = shapes[_HOLDS["unet"][0]][1]
    if channels != 4:
        raise refuse(f"The UNet of '{name}' takes {channels} channels, where Stable Diffusion takes 4{_why(channels)}.")


def _why(channels: int) -> str:
    return f": {_CHANNELS[channels]}" if channels in _CHANNELS else ""


def _named(index: Mapping[str, Any], part: str) -> str | None:
    """The class that `model_index.json` gives to a part."""
    entry = index.get(part)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _flat(block: str) -> str:
    return re.sub(r"(Pseudo)?3D", "2D", block)
