"""A checkpoint's files: which of them hold what, and how they are refused. No torch here, and no weights are read."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from ..errors import EditError

PARTS = ("unet", "vae", "text_encoder")
"""The parts of a checkpoint's folder that hold weights."""
SCHEDULER_FILE = "scheduler/scheduler_config.json"
VOCABULARY_FILES = ("tokenizer/vocab.json", "tokenizer/merges.txt")

REMEDY = "Give a Stable Diffusion 1.x or 2.x checkpoint, as a folder in diffusers layout or a single file, or use the built-in model."

_DIFFUSERS = ("diffusion_pytorch_model", "diffusion_pytorch_model")
_STEMS = {"unet": _DIFFUSERS, "vae": _DIFFUSERS, "text_encoder": ("model", "pytorch_model")}
"""File names without their ends: of safetensors, of torch's own files."""
_LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors library takes no more."""


def weights_names(part: str) -> list[str]:
    """The names that the weights of `part` may have, the best first: full precision before the half one."""
    safe, pickled = _STEMS[part]
    return [f"{safe}.safetensors", f"{pickled}.bin", f"{safe}.fp16.safetensors", f"{pickled}.fp16.bin"]


def weights_file(place: Path, part: str) -> Path:
    """The file with the weights of `part` in its own folder `place`; EditError where there is none."""
    names = weights_names(part)
    for name in names:
        if (place / name).is_file():
            return place / name
    pieces = sorted(path.name for path in place.glob("*.index*.json"))
    if pieces:
        raise refuse(
            f"The {part} of '{_owner(place)}' is stored in several pieces ({pieces[0]}).",
            f"Save it as one file, {names[0]}.",
        )
    raise lacks(place, names[0])


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the checkpoint in `folder`; EditError where it is missing or none."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise lacks(folder, name) from error
    except (OSError, ValueError) as error:
        raise refuse(f"{name} of the checkpoint '{_owner(folder)}' cannot be read ({first_line(error)}).") from error
    if not isinstance(value, dict):
        raise refuse(f"{name} of the checkpoint '{_owner(folder)}' is no JSON object.")
    return value


def is_safetensors(path: Path) -> bool:
    """Whether its name says that it is a safetensors file."""
    return path.suffix.lower() == ".safetensors"


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The shapes by name, and the metadata, of a safetensors file; EditError where it is damaged or cut short."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if 8 + length + end > path.stat().st_size:
            raise ValueError("it ends too soon")
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError) as error:
        raise refuse(f"{shown(path)} is damaged or cut short ({first_line(error)}).") from error
    return shapes, metadata


def shown(path: Path) -> str:
    """A weights file as people know it: checkpoint, part, file."""
    return "/".join(path.parts[-3:]) if path.parent.name in PARTS else path.name


def lacks(folder: Path, name: str) -> EditError:
    """The error for a file that is missing in a checkpoint's folder, or in that of one of its parts."""
    inside = f"{folder.name}/" if folder.name in PARTS else ""
    return refuse(f"The checkpoint '{_owner(folder)}' lacks {inside}{name}.")


def first_line(error: Exception) -> str:
    """What an error says, in one short line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def refuse(sentence: str, remedy: str = REMEDY) -> EditError:
    """The error for a checkpoint that cannot be used."""
    return EditError("checkpoint", sentence, remedy)


def _owner(folder: Path) -> str:
    """The name of the checkpoint that a folder is, or is a part of."""
    return folder.parent.name if folder.name in PARTS else folder.name
