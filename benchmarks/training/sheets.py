"""Sample sheets: pictures of a training in one PNG, to be looked at."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image


def save_sheet(path: Path, images: torch.Tensor, columns: int) -> None:
    """Writes (N, 3, h, w) in -1…1 as a sheet of ``columns`` pictures a row; the file is replaced whole."""
    rows = [torch.cat(list(row), dim=2) for row in images.split(columns)]
    missing = rows[0].shape[2] - rows[-1].shape[2]
    rows[-1] = torch.nn.functional.pad(rows[-1], (0, missing), value=1.0)
    sheet = ((torch.cat(rows, dim=1).clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    part = path.with_suffix(".part")
    Image.fromarray(sheet.numpy()).save(part, format="PNG")
    os.replace(part, path)
