"""A tuned video checkpoint's folder, in the layout in which such checkpoints are published."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from protocol.durable import sync, sync_tree
from protocol.models import PROFILE_FILE, Model

from ..models.checkpoint import BUILTIN, BUILTIN_FOLDER, Checkpoint
from ..models.checks import TUNED_CLASSES, as_tuned_config, autoencoder_place
from ..models.files import SCHEDULER_FILE, read_json, weights_file, weights_names
from ..tables import cannot_keep

INDEX = "model_index.json"
"""Of a checkpoint's parts; it is written last."""


def save_checkpoint(folder: Path, model: Model, checkpoint: Checkpoint, state: Mapping[str, Tensor], rank: int) -> None:
    """Write `checkpoint`, which came from `model`, with the tuned UNet whose weights are `state`; of `rank` 0 it has no
    temporal layers, and stays an image checkpoint in a folder.

    Parts that tuning leaves alone are links to the image checkpoint's files where the file system has them, else copies.
    `model_index.json` comes last, once the disk has all else: a folder without it is refused. EditError where the disk does not take it.
    """
    try:
        base = BUILTIN_FOLDER if model.path == BUILTIN else Path(model.path).expanduser()
        if rank:
            config = as_tuned_config(checkpoint.unet.config) | {"lora": rank}
        else:
            config = read_json(base / "unet", "config.json")
        _save(folder / "unet", "unet", _json(config), state)
        _save_rest(folder, model, checkpoint, base)
        classes = {"scheduler": "DDIMScheduler", "text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
        index = {name: ["transformers" if name[0] == "t" else "diffusers", made] for name, made in classes.items()}
        index |= {"vae": ["diffusers", "AutoencoderKL"], "_class_name": "StableDiffusionPipeline"}
        if base.is_dir():
            index = read_json(base, INDEX)
        if rank:
            index = index | {"unet": ["video_diffusion.models.unet_3d_condition", TUNED_CLASSES[0]]}
        sync_tree(folder)
        _write(folder / INDEX, _json(index).encode())
    except OSError as error:
        raise cannot_keep(error, folder) from error


def _save(place: Path, part: str, config: str, state: Mapping[str, Tensor]) -> None:
    """Write one part from memory."""
    _write(place / "config.json", config.encode())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    _write(place / weights_names(part)[0], safetensors.torch.save(tensors, {"format": "pt"}))


def _save_rest(folder: Path, model: Model, checkpoint: Checkpoint, base: Path) -> None:
    """All parts but the UNet; those that are no files of their own, or were changed on loading, as they are in memory."""
    if base.is_dir():
        _link(base / "tokenizer", folder / "tokenizer")
        _link(base / "scheduler", folder / "scheduler")
        if (base / PROFILE_FILE).is_file():
            profile = read_json(base, PROFILE_FILE) | ({"base": BUILTIN} if model.path == BUILTIN else {})
            _write(folder / PROFILE_FILE, _json(profile).encode())
    else:
        checkpoint.tokenizer.save_pretrained(folder / "tokenizer")
        checkpoint.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
        _write(folder / SCHEDULER_FILE, _json(checkpoint.scheduler_config).encode())
    if base.is_dir() and not model.loras:
        _link(base / "text_encoder", folder / "text_encoder", weights_file(base / "text_encoder", "text_encoder"))
    else:
        text_encoder = checkpoint.text_encoder
        _save(folder / "text_encoder", "text_encoder", text_encoder.config.to_json_string(), text_encoder.state_dict())
    vae = autoencoder_place(model) if model.vae else base / "vae"
    if vae.is_dir():
        _link(vae, folder / "vae", weights_file(vae, "vae"))
    else:
        _save(folder / "vae", "vae", checkpoint.vae.to_json_string(), checkpoint.vae.state_dict())


def _link(source: Path, place: Path, *weights: Path) -> None:
    """Give `place` the small files of a part's folder, and its `weights`."""
    place.mkdir(parents=True, exist_ok=True)
    for file in [*(file for file in source.glob("*") if file.suffix in (".json", ".txt")), *weights]:
        (place / file.name).unlink(missing_ok=True)
        try:
            os.link(file.resolve(), place / file.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, place / file.name)


def _write(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, and never written through a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.writing")
    try:
        part.write_bytes(data)
        sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), indent=2) + "\n"
