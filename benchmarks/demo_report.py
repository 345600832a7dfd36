"""The demo's pictures and figures: `python -m benchmarks.demo_report FOLDER`, in the engine's Python."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.metrics import psnr
from engine.clips import read_clip, write_clip
from engine.editing import Editor

RATE = Fraction(8)
ZOOM, GAP, LABELS = 1.5, 6, 92
"""Of the contact sheet: pixels of the sheet to one of a frame, and between frames, and for the rows' names."""


def main(folder: Path) -> None:
    record = json.loads((folder / "report.json").read_text())
    truth = dict(np.load(folder / "truth.npz"))
    source, mask, right = truth.pop("source"), truth.pop("mask"), str(truth.pop("right"))
    edited, _ = read_clip(Path(record["edited"]))
    edited = edited[..., :3]
    word = next((folder / "masks").iterdir())
    masks = np.stack([np.asarray(Image.open(path).convert("L")) for path in sorted(word.iterdir())])

    ceiling = Editor.load(record["model"]).autoencode(source)
    record["metrics"] = figures(source, edited, truth, right, mask, ceiling)
    record["versions"] |= {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")}
    (folder / "report.json").write_text(json.dumps(record, indent=2))

    write_clip(folder / "side-by-side.mp4", enlarge(np.concatenate([source, edited], axis=2), 2), RATE)
    rows = {"source": source, f"mask of\n'{word.name}'": np.repeat(masks[..., None], 3, -1), "edited": edited}
    contact_sheet(rows | {"right\nanswer": truth[right]}).save(folder / "contact-sheet.png")
    for name, value in record["metrics"].items():
        print(f"  {name.replace('_', ' '):28} {value}")


def figures(
    source: np.ndarray,
    edited: np.ndarray,
    truths: dict[str, np.ndarray],
    right: str,
    mask: np.ndarray,
    ceiling: np.ndarray,
) -> dict[str, float | bool | str]:
    """Clips are (F, H, W, 3) uint8, `mask` (F, H, W) bool where the object is; PSNR in dB."""
    inside = {colour: psnr(edited, clip, mask) for colour, clip in (truths | {"(as it was)": source}).items()}
    nearest = max(inside, key=inside.get)
    return {
        "success": nearest == right,
        "nearest_clip": nearest,
        "object_psnr_to_right_answer": round(inside[right], 2),
        "object_psnr_to_source": round(inside["(as it was)"], 2),
        "background_psnr": round(psnr(edited, source, ~mask), 2),
        "background_psnr_of_the_autoencoder_alone": round(psnr(ceiling, source, ~mask), 2),
        "psnr_to_right_answer": round(psnr(edited, truths[right]), 2),
    }


def contact_sheet(rows: dict[str, np.ndarray]) -> Image.Image:
    """Named rows of (F, H, W, 3) frames, time to the right."""
    frames, height, width, _ = next(iter(rows.values())).shape
    width, height = round(width * ZOOM), round(height * ZOOM)
    size = (LABELS + frames * (width + GAP), len(rows) * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, (name, clip) in enumerate(rows.items()):
        top = GAP + number * (height + GAP)
        pen.multiline_text((GAP, top + height // 2 - 20), name, "black", font)
        for column, frame in enumerate(clip):
            picture = Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(picture, (LABELS + column * (width + GAP), top))
    return sheet


def enlarge(clip: np.ndarray, times: int) -> np.ndarray:
    """Each pixel `times` as wide and high, so that small clips can be watched."""
    return clip.repeat(times, axis=1).repeat(times, axis=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
