"""The kernels that plain attention may be computed by, and the one that is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""softmax(Q K^T / sqrt(d)) V of tensors (groups, heads, pixels, d)."""


def of_torch(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """torch's own, fused wherever it has a kernel for the device: then no map is made."""
    return functional.scaled_dot_product_attention(query, key, value)


_chosen: dict[tuple[str, torch.dtype], Kernel] = {}
"""In this process, where it is not torch's."""


def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by the kernel that was chosen for the device and the type; by torch's where that one fails."""
    kernel = _chosen.get((query.device.type, query.dtype)) if _chosen else None
    if kernel is None:
        return of_torch(query, key, value)
    try:
        return kernel(query, key, value)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001  a shape that it cannot do, or a build for another torch
        _chosen.pop((query.device.type, query.dtype), None)
        return of_torch(query, key, value)


def choose(device: torch.device, dtype: torch.dtype, kernel: Kernel) -> None:
    """Have attention on `device` in `dtype` computed by `kernel` in this process."""
    _chosen.pop((device.type, dtype), None)
    if kernel is not of_torch:
        _chosen[device.type, dtype] = kernel
