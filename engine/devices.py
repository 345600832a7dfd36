"""Devices, precisions and memory."""

from __future__ import annotations

import psutil
import torch

from .errors import EditError

PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes CUDA, then MPS, then the CPU. EditError where it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EditError(
            "device", f"There is no device '{name}' here.", "Use 'auto', or see the doctor's list."
        ) from error
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is float16 on a GPU; on a CPU float32, which every CPU computes well and inversion repeats exactly in."""
    if precision == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    return PRECISIONS[precision]


def free_memory(device: torch.device) -> int:
    """Bytes that a clip may take on `device`."""
    if device.type == "cuda":
        # What torch keeps for its next tensors counts as taken there, but is free for us.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available


def release_memory(device: torch.device) -> None:
    """Give back what torch keeps of the device's memory for its next tensors."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def held_memory(device: torch.device) -> int:
    """Bytes that this process has of the device's own memory."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else 0


def describe(device: torch.device) -> str:
    """A device as people know it, with its free memory."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{name}, {free_memory(device) / 2**30:.1f} GiB free"
