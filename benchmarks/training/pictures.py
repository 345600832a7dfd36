"""Colours rendered clips into training pictures: ``python -m benchmarks.training.pictures --data DIR --out DIR``.

Every rendered frame is coloured several times, so that the same geometry is seen in many colours: what stays the
same then cannot be what the colour word means. Every second colouring is mirrored.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..world import spec
from ..world.compose import compose_frame, floor_albedo, load_passes

PARAPHRASES = 6
#: What a word names: the first or second object, the floor, the sky, or the whole picture.
NOTHING, OBJECT, FLOOR, SKY, ALL = -1, 0, 2, 3, 4
REGIONS = 4
REGION_SIDE = 32  # of the stored region shares
STYLED = 0.33  # share of the pictures that are drawn in a style
_SALT = 7


def recolour(scene: spec.Scene, rng: np.random.Generator) -> spec.Scene:
    """The same geometry in other allowed colours, materials, floor, sky and style; two objects never share a colour."""
    things, taken = [], set()
    for thing in scene.objects:
        free = [colour for colour in spec.allowed_colours(thing.shape) if colour not in taken]
        colour = free[rng.integers(len(free))]
        taken.add(colour)
        things.append(replace(thing, colour=colour, material="shiny" if rng.random() < 0.3 else "matte"))
    floor = spec.FLOORS[rng.integers(len(spec.FLOORS))]
    sky = spec.SKIES[rng.integers(len(spec.SKIES))]
    style = spec.STYLES[rng.integers(1, len(spec.STYLES))] if rng.random() < STYLED else "plain"
    return replace(scene, objects=tuple(things), floor=floor, sky=sky, style=style)


def word_regions(words: list[str], scene: spec.Scene) -> list[int]:
    """For each word of a caption, which region of the picture it names."""
    regions = [NOTHING] * len(words)
    for place, word in enumerate(words):
        if word in (scene.floor, "floor"):
            regions[place] = FLOOR
        elif word == "sky":
            regions[place] = SKY
        elif word in (scene.sky, scene.style) or (word == "art" and scene.style == "pixel"):
            regions[place] = ALL
    for number, thing in enumerate(scene.objects):
        start = end = words.index(thing.colour)
        if words[start - 1] == thing.material:
            start -= 1
        end = words.index(thing.shape)
        if thing.motion != "still" and words[end + 1].endswith("ing"):
            end += 1
        regions[start : end + 1] = [OBJECT + number] * (end + 1 - start)
    return regions


def region_shares(passes: dict[str, np.ndarray], frame: int) -> np.ndarray:
    """(REGIONS, 32, 32) uint8: share of each region in the places of a grid; the second object may be absent."""
    covers, ground = passes["covers"][frame].astype(int), passes["ground"][frame].astype(int)
    shares = np.zeros((REGIONS, *ground.shape), int)
    shares[: len(covers)] = covers
    shares[FLOOR] = ground
    shares[SKY] = np.clip(255 - ground - covers.sum(0), 0, 255)
    step = ground.shape[0] // REGION_SIDE
    return shares.reshape(REGIONS, REGION_SIDE, step, REGION_SIDE, step).mean((2, 4)).astype(np.uint8)


def _clip(task: tuple[Path, Path, int, int]) -> list[list[tuple[str, list[int]]]]:
    """Fills one clip's rows of the arrays and returns their captions."""
    folder, out, first, variants = task
    scene = spec.sample_scene(int(folder.name.rsplit("_", 1)[1]))
    passes = load_passes(folder)
    pictures, regions = (np.load(out / f"{name}.npy", mmap_mode="r+") for name in ("pictures", "regions"))
    rng = np.random.default_rng([_SALT, scene.seed])
    captions, row = [], first
    for frame in range(len(passes["ground"])):
        grounds = functools.cache(functools.partial(floor_albedo, passes, frame=frame))
        shares = region_shares(passes, frame)
        for variant in range(variants):
            shown = recolour(scene, rng)
            flip = 1 if variant % 2 == 0 else -1
            pictures[row] = compose_frame(passes, shown, frame, grounds(floor=shown.floor))[:, ::flip]
            regions[row] = shares[:, :, ::flip]
            texts = [spec.caption(shown, int(rng.integers(1, 10_000))) for _ in range(PARAPHRASES - 1)]
            texts.insert(0, spec.caption(shown))
            captions.append([(text, word_regions(text.split(), shown)) for text in texts])
            row += 1
    return captions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.pictures", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks.world rendered")
    parser.add_argument("--out", type=Path, required=True, help="gets pictures.npy, regions.npy and captions.json")
    parser.add_argument("--variants", type=int, default=6, help="colourings of each frame")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    folders = sorted(path.parent for path in arguments.data.glob("clip_*/passes.npz"))
    if not folders:
        raise SystemExit(f"{arguments.data} holds no rendered clips; run python -m benchmarks.world first")
    frames, side = load_passes(folders[0])["ground"].shape[:2]
    rows, count = frames * arguments.variants, len(folders) * frames * arguments.variants
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, shape in (("pictures", (side, side, 3)), ("regions", (REGIONS, REGION_SIDE, REGION_SIDE))):
        np.lib.format.open_memmap(arguments.out / f"{name}.npy", "w+", np.uint8, (count, *shape))
    tasks = [(folder, arguments.out, number * rows, arguments.variants) for number, folder in enumerate(folders)]
    captions = []
    with multiprocessing.Pool(arguments.workers) as pool:
        for done, part in enumerate(pool.imap(_clip, tasks), 1):
            captions += part
            if done % 20 == 0 or done == len(tasks):
                print(f"{done} of {len(tasks)} clips", flush=True)
    (arguments.out / "captions.json").write_text(json.dumps(captions))


if __name__ == "__main__":
    main()
