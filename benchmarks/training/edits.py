"""Recolours held-out clips with the engine: ``python -m benchmarks.training.edits --data DIR --model DIR --out DIR``.

A first look at whether a model can be edited with, not the quality benchmark: one attribute edit a clip, the first object's colour.
Writes ``edits.png`` (a clip a row: source, edit, truth of the first and last frame) and ``edits.json``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from engine.editing import Editor, EditSettings
from protocol.settings import Window

from ..metrics import psnr
from ..world import spec
from ..world.compose import compose, load_passes, object_mask
from .autoencoder import to_model
from .sheets import save_sheet


def recoloured(scene: spec.Scene, colour: str) -> spec.Scene:
    """The scene with its first object in another colour."""
    return replace(scene, objects=(replace(scene.objects[0], colour=colour), *scene.objects[1:]))


def judge(editor: Editor, folder: Path, number: int, arguments: argparse.Namespace) -> tuple[dict, list[np.ndarray]]:
    """One clip's figures, and its source, edit and truth (F, h, w, 3)."""
    scene = spec.sample_scene(int(folder.name.rsplit("_", 1)[1]), held_out=True)
    passes = load_passes(folder)
    free = [c for c in spec.COLOURS if c not in {thing.colour for thing in scene.objects}]
    wanted = free[number % len(free)]
    truths = {colour: compose(passes, recoloured(scene, colour)) for colour in spec.COLOURS}
    source, truth, mask = compose(passes, scene), truths[wanted], object_mask(passes, 0)
    settings = EditSettings(
        source=spec.caption(scene),
        target=spec.caption(recoloured(scene, wanted)),
        steps=arguments.steps,
        guidance=arguments.guidance,
        cross_window=Window(0.0, arguments.window),
        self_window=Window(0.0, arguments.window),
        word_weights={wanted: arguments.weight},
    )
    edit = editor.edit(source, settings).frames
    near = {colour: psnr(edit, clip, mask) for colour, clip in truths.items()}
    figures = {
        "edit": f"{settings.source} -> {wanted}",
        "nearest": max(near, key=near.get),
        "success": max(near, key=near.get) == wanted,
        "object_psnr": near[wanted],
        "object_psnr_unedited": near[scene.objects[0].colour],
        "background_psnr": psnr(edit, source, ~mask),
        "background_ceiling": psnr(editor.autoencode(source), source, ~mask),
    }
    return figures, [source, edit, truth]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.edits", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks.world --held-out rendered")
    parser.add_argument("--model", required=True, help="'builtin' or a folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--weight", type=float, default=1.0, help="equalizer weight of the new colour")
    parser.add_argument("--window", type=float, default=0.8, help="end of the cross- and self-attention windows")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    editor = Editor.load(arguments.model)
    rows, pictures = [], []
    for number, folder in enumerate(sorted(path.parent for path in arguments.data.glob("held_out_*/passes.npz"))):
        figures, clips = judge(editor, folder, number, arguments)
        rows.append(figures)
        pictures += [to_model(clip[[0, -1]]) for clip in clips]
        print(f"{figures['edit']}: nearest {figures['nearest']}", flush=True)
    save_sheet(arguments.out / "edits.png", torch.cat(pictures), columns=6)
    means = {
        name: round(float(np.mean([row[name] for row in rows])), 3)
        for name in rows[0]
        if name not in ("edit", "nearest")
    }
    (arguments.out / "edits.json").write_text(json.dumps({"means": means, "clips": rows}, indent=1) + "\n")
    print(json.dumps(means, indent=1))


if __name__ == "__main__":
    main()
