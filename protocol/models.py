"""Checkpoints by name. A path never travels: the wire carries a model's name, and a file on the engine's own machine,
which only its user can write, says what that name means."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from . import limits
from .errors import UNREADABLE, ProtocolError
from .private import write_private
from .settings import BUILTIN_MODEL

FILE_NAME = "models.json"
PROFILE_FILE = "profile.json"
"""In a checkpoint's folder: what the method must know of it, and the model that it was tuned from."""
TUNED_FOLDER = "tuned"
"""Below an engine's folder: the checkpoints that its tunings have made, each in a folder of its own."""
NAME_PATTERN = r"[\w.-]{1,80}"


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model is made of on the engine's machine; every path is an absolute one there.

    Only in the `models.json` of an engine's folder those in its own `tuned/` are written from there on: it may be moved.
    """

    path: str
    """`builtin`, a folder in diffusers layout, or a single `.safetensors` or `.ckpt` file."""
    vae: str = ""
    """The folder, or the single file, of an autoencoder that stands in for the checkpoint's own; none: its own."""
    loras: tuple[tuple[str, float], ...] = ()
    """LoRA files, each with the weight that it is added with."""
    prediction: str = ""
    """What a single file's UNet predicts, `epsilon` or `v_prediction`; none: as the file says."""


def name_of(path: Path) -> str:
    """The name that a checkpoint goes by: its own, and a few digits that tell it from others of that name."""
    return _name(Model(str(path)))


def register(home: Path, path: Path) -> str:
    """Let the engine that lives in `home` use the checkpoint at `path`; returns its name. Raises `OSError`."""
    return add(home, Model(str(path)))


def add(home: Path, model: Model, name: str = "") -> str:
    """Let the engine that lives in `home` use `model`, under `name` or one made from its path; returns the name.

    Raises `OSError` where it cannot be noted down, `ProtocolError('name-taken')` where `name` means another model, and
    `ProtocolError('bad-name')` where it cannot be one.
    """
    for path in (model.path, model.vae, *(file for file, _ in model.loras)):
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise OSError(errno.EINVAL, "its name is not valid text", path) from error
    known, name = _read(home), name or _name(model)
    check_name(name, [other for other, its in known.items() if its != model])
    if name not in known:
        _write(home, known | {name: model})
    return name


def check_name(name: str, taken: Iterable[str]) -> None:
    """Refuse a name that no model can have (`ProtocolError('bad-name')`), or that is one of `taken` (`name-taken`)."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ProtocolError(
            "bad-name",
            f"A model cannot be called '{limits.cut(name)}'.",
            "Use up to 80 letters, digits, dots, hyphens and underscores.",
        )
    if name == BUILTIN_MODEL or name in taken:
        raise ProtocolError(
            "name-taken", f"Another model is called '{name}'.", "Choose another name, or remove that model first."
        )


def remove(home: Path, name: str) -> None:
    """Forget the model called `name`; its files stay. Raises `OSError`, `ProtocolError('unknown-model')`."""
    known = _read(home)
    if name not in known:
        raise _unknown(name)
    _write(home, {other: model for other, model in known.items() if other != name})


def known(home: Path) -> list[str]:
    """The names that may be asked for, the built-in model first."""
    return [BUILTIN_MODEL, *_read(home)]


def resolve(home: Path, name: str) -> Model:
    """What `name` means; `ProtocolError('unknown-model')` where it was never registered."""
    if name == BUILTIN_MODEL:
        return Model(name)
    model = _read(home).get(name)
    if model is None:
        raise _unknown(name)
    return _placed(home, model)


def base_of(model: Model) -> str:
    """`builtin` for a model that was tuned from the built-in one, as its folder says; nothing for all others."""
    try:
        profile = msgspec.json.decode((Path(model.path).expanduser() / PROFILE_FILE).read_bytes(), type=dict)
    except (OSError, *UNREADABLE):
        return ""
    return BUILTIN_MODEL if profile.get("base") == BUILTIN_MODEL else ""


def from_builtin(home: Path) -> list[str]:
    """Those of the `known` models that were tuned from the built-in one."""
    return [name for name, model in _read(home).items() if base_of(_placed(home, model))]


def made_here(home: Path, name: str) -> Path | None:
    """The folder of the model called `name` if a tuning of this engine has made it and no other name stands for it, else None."""
    folder = Path(resolve(home, name).path)
    others = (resolve(home, other) for other in known(home) if other != name)
    if folder.parent != home.absolute() / TUNED_FOLDER or any(str(folder) in (its.path, its.vae) for its in others):
        return None
    return folder


def _placed(home: Path, model: Model) -> Model:
    """The same with its whole path: those of models that were tuned in `home` are noted relative to it."""
    if not model.path.startswith(f"{TUNED_FOLDER}/"):
        return model
    return msgspec.structs.replace(model, path=str(home.absolute() / model.path))


def _name(model: Model) -> str:
    # Of a plain checkpoint the path alone counts, so that its name is that of every version of this program.
    told = os.fsencode(model.path) if model == Model(model.path) else msgspec.json.encode(model)
    shown = re.sub(r"[^\w.-]+", "-", Path(model.path).name)[:60]
    return f"{shown}-{hashlib.sha256(told).hexdigest()[:8]}"


def _unknown(name: str) -> ProtocolError:
    return ProtocolError(
        "unknown-model",
        f"The engine knows no model '{name}'.",
        "Choose the checkpoint again, or use the built-in model.",
    )


def _read(home: Path) -> dict[str, Model]:
    """What is registered; a file that is missing or damaged is an empty one, as registering again mends it, and a model
    that cannot be read costs no other.

    A model that is a text alone, as earlier versions wrote it, is the checkpoint at that path.
    """
    models: dict[str, Model] = {}
    try:
        entries = msgspec.json.decode((home / FILE_NAME).read_bytes(), type=dict[str, msgspec.Raw])
    except (OSError, *UNREADABLE):
        return models
    for name, raw in entries.items():
        with contextlib.suppress(*UNREADABLE):
            entry = msgspec.json.decode(raw, type=Model | str)
            models[name] = Model(entry) if isinstance(entry, str) else entry
    return models


def _write(home: Path, models: dict[str, Model]) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(home / FILE_NAME, msgspec.json.encode(models))
