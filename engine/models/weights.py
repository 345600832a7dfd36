"""Weights from files, and modules from weights: nothing but tensors is ever unpickled."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .files import first_line, is_safetensors, read_header, refuse, shown


class _Bystander:
    """Stands for a class that files of old training programs name beside their tensors; it does nothing."""


_BYSTANDERS = [(_Bystander, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")]
"""Stable Diffusion 1.4's own .ckpt file names this class."""


def read_weights(path: Path, device: str = "cpu") -> dict[str, Any]:
    """What a file holds, by name; EditError where it is damaged, or would run code when it is loaded."""
    try:
        if is_safetensors(path):
            read_header(path)
            return load_file(path, device=device)
        state = _unpickled(path, device)
        if not isinstance(state, Mapping):
            raise refuse(f"{shown(path)} holds no tensors by name.")
        return state
    except pickle.UnpicklingError as error:
        raise refuse(f"{shown(path)} holds more than tensors, which could run code, or is no checkpoint.") from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise refuse(f"{shown(path)} is damaged or cut short ({first_line(error)}).") from error


def _unpickled(path: Path, device: str) -> Any:
    """What torch's own kind of file holds; its reader raises whatever the bytes of a damaged one lead it to, as
    `UnpicklingError` here, and tells programmers of old pickles."""
    with torch.serialization.safe_globals(_BYSTANDERS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except (struct.error, LookupError, TypeError, AttributeError, AssertionError, NotImplementedError) as error:
            raise pickle.UnpicklingError(first_line(error)) from error


def build(
    make: type,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    file: str,
    prepare: Callable[[nn.Module], None] = lambda _: None,
) -> nn.Module:
    """A diffusers module of class `make`, changed by `prepare`, with the weights `state` in float32.

    EditError where those of `file` are not exactly the ones that it has.
    """
    try:
        with torch.device("meta"):  # no random weights are made only to be thrown away
            module = make.from_config(dict(config))
            prepare(module)
        lacking, unknown = module.load_state_dict(
            {name: tensor.float() for name, tensor in state.items()}, strict=False, assign=True
        )
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise does_not_fit(file, error) from error
    check_whole(file, lacking)
    if unknown:
        raise refuse(f"{file} holds {len(unknown)} tensors of another make of model, such as {unknown[0]}.")
    return module


def check_whole(file: str, lacking) -> None:
    """Refuse weights that lack some of their tensors."""
    if lacking := sorted(lacking):
        raise refuse(f"{file} is incomplete: it lacks {len(lacking)} tensors, such as {lacking[0]}.")


def does_not_fit(file: str, error: Exception):
    """The error for weights of other shapes than those of their configuration."""
    return refuse(f"{file} does not fit the checkpoint's config.json ({first_line(error)}).")
