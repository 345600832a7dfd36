"""Sheets of the benchmark's edits: rows of frames, to be looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP, _LABEL, _FONT = 4, 15, 11  # pixels
_COLOURS = 256  # of a sheet: small files are worth more here than the last shade


def sheet(path: Path, rows: list[tuple[str, list[np.ndarray]]], frames: tuple[int, ...]) -> None:
    """Writes a PNG with a line of text and the chosen ``frames`` of each clip (F, side, side, 3), row by row."""
    side = rows[0][1][0].shape[1]
    columns = max(len(clips) for _, clips in rows)
    width = columns * (len(frames) * side + _GAP)
    canvas = Image.new("RGB", (width, len(rows) * (side + _LABEL + _GAP)), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT)
    for row, (text, clips) in enumerate(rows):
        top = row * (side + _LABEL + _GAP)
        pen.text((1, top), text, "black", font)
        for column, clip in enumerate(clips):
            strip = Image.fromarray(np.concatenate([clip[frame] for frame in frames], axis=1))
            canvas.paste(strip, (column * (len(frames) * side + _GAP), top + _LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(_COLOURS, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
