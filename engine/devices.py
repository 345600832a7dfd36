"""Devices, precisions and memory."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

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
    """`auto` is float16 on a GPU, and on a CPU what it is fastest in."""
    if precision == "auto":
        if device.type != "cpu":
            return torch.float16
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    return PRECISIONS[precision]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a CPU has instructions for it (AVX512_BF16 or AMX), or a GPU does; others only imitate it, slower than float32."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def memory_format(device: torch.device, dtype: torch.dtype) -> torch.memory_format:
    """The order of a convolution's numbers that is fastest: measured on a CPU, and left as it is elsewhere."""
    return torch.channels_last if (device.type, dtype) == ("cpu", torch.float32) else torch.contiguous_format


def use_real_cores() -> None:
    """Let the CPU's calculations have no more threads than it has cores: two on one core wait for each other."""
    cores = psutil.cpu_count(logical=False)
    if cores and cores < torch.get_num_threads():
        torch.set_num_threads(cores)


def free_memory(device: torch.device) -> int:
    """Bytes that a clip may take on `device`."""
    if device.type == "cuda":
        # What torch keeps for its next tensors counts as taken there, but is free for us.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return psutil.virtual_memory().available


def release_memory(device: torch.device) -> None:
    """Give back what torch, or on a CPU the C library, keeps of the device's memory for its next tensors."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif device.type == "cpu" and sys.platform == "linux":
        with suppress(AttributeError):  # other C libraries than GNU's give it back by themselves
            ctypes.CDLL(None).malloc_trim(0)


def held_memory(device: torch.device) -> int:
    """Bytes that this process has of the device's own memory."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return torch.mps.driver_allocated_memory() if device.type == "mps" else 0


def describe(device: torch.device) -> str:
    """A device as people know it, with its free memory."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return f"{name}, {free_memory(device) / 2**30:.1f} GiB free"
