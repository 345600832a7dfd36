"""Which kernel computes plain attention on a device: measured where there are several, and remembered."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from protocol.private import write_private

from .fatezero.kernels import Kernel, choose, of_torch

SHAPE = (16, 8, 1024, 80)
"""What is measured: two rows of 8 frames at the second level of Stable Diffusion 1.5, for a picture of 512²."""
TIMES = 5
"""That each is measured, the fastest counting; once before that does not count."""
FILE = "attention.json"
"""What was measured, in the engine's home."""
TORCH = "torch"


def of_xformers(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """That of xformers, which wants the heads after the pixels."""
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(*(part.transpose(1, 2) for part in (query, key, value))).transpose(1, 2)


def candidates(device: torch.device) -> dict[str, Kernel]:
    """What there is to choose from on a device, by name; torch's is always there, and first."""
    found: dict[str, Kernel] = {TORCH: of_torch}
    if device.type == "cuda" and _version("xformers"):
        found["xformers"] = of_xformers
    return found


def settle(device: torch.device, dtype: torch.dtype, home: Path, among: Mapping[str, Kernel] | None = None) -> str:
    """Have attention on `device` in `dtype` computed by the fastest of `among` (else of the `candidates`); its name.

    It is measured once, in less than a second, and read from the engine's `home` after that; nothing is where there is
    but one.
    """
    among = candidates(device) if among is None else among
    name = next(iter(among))
    if len(among) > 1:
        known, key = _read(home), _key(device, dtype)
        seconds = known.get(key)
        if not _is_measured(seconds, among):
            seconds = known[key] = measured(among, device, dtype)
            _write(home, known)
        name = min(among, key=lambda each: float("inf") if seconds[each] is None else seconds[each])
    choose(device, dtype, among[name])
    return name


def measured(among: Mapping[str, Kernel], device: torch.device, dtype: torch.dtype) -> dict[str, float | None]:
    """Seconds that each takes for `SHAPE`; None for one that fails."""
    inputs = [torch.randn(SHAPE, device=device, dtype=dtype) for _ in range(3)]

    def once(kernel: Kernel) -> float:
        begun = time.perf_counter()
        kernel(*inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begun

    found: dict[str, float | None] = {}
    for name, kernel in among.items():
        try:
            once(kernel)
            found[name] = min(once(kernel) for _ in range(TIMES))
        except Exception:  # noqa: BLE001  whatever ails it, another will do
            found[name] = None
    return found


def _key(device: torch.device, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, {str(dtype).removeprefix('torch.')}, torch {torch.__version__}, xformers {_version('xformers')}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_measured(seconds: object, among: Mapping[str, Kernel]) -> bool:
    """Whether what was read says a time, or that it fails, of each of these."""
    if not isinstance(seconds, dict) or seconds.keys() != among.keys():
        return False
    return all(value is None or isinstance(value, (int, float)) for value in seconds.values())


def _read(home: Path) -> dict:
    try:
        known = json.loads((home / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(home: Path, known: dict) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(home / FILE, json.dumps(known, indent=1).encode())
    except OSError:
        return  # then it is measured again next time
