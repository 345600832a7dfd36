"""The benchmark's edits: which clip, into what, and all the answers that would be wrong. Pure numpy.

Every pair is drawn from the world's held-out stream. Colour-shape pairs that training never shows stand on the source's
side in half of the edits that can choose, and on the target's in the other half: those edits are zero-shot.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..world import spec
from ..world.compose import compose, load_passes, object_mask

KINDS = ("attribute", "background", "style", "object", "one_of_two")
FRAMES = 16  # of a rendered clip
SIDE = 128
_TURN = 0.9  # radians: how far a shape that may become a ring or a monkey is turned away from the camera


@dataclass(frozen=True)
class Pair:
    """One edit. ``candidates`` are the target and every wrong answer, the source among them."""

    number: int
    kind: str
    source: spec.Scene
    target: spec.Scene
    candidates: tuple[spec.Scene, ...]
    edited: int = 0
    """Which object changes, where one does."""

    @property
    def word(self) -> str | None:
        """The word of the source caption that names the edited place; none where it is the whole picture."""
        if self.kind == "style":
            return None
        if self.kind == "background":
            return self.source.floor if self.changes_floor else "sky"
        return self.source.objects[self.edited].shape

    @property
    def changes_floor(self) -> bool:
        return self.source.floor != self.target.floor

    @property
    def prompts(self) -> tuple[str, str]:
        return spec.caption(self.source), spec.caption(self.target)


def pair(number: int) -> Pair:
    """The benchmark's edit of this number; kinds take turns."""
    kind, turn = KINDS[number % len(KINDS)], number // len(KINDS)
    if kind == "one_of_two":
        return _one_of_two(number, _held_out_scene(2, turn), turn)
    scene = _held_out_scene(1, turn * 4 + number % len(KINDS))
    return {"attribute": _attribute, "background": _background, "style": _style, "object": _object}[kind](
        number, scene, turn
    )


@functools.cache
def _held_out_scene(objects: int, index: int) -> spec.Scene:
    """The held-out scene that is number ``index`` among those with so many objects."""
    found = -1
    for seed in range(1_000_000):
        scene = spec.sample_scene(seed, held_out=True)
        found += len(scene.objects) == objects
        if found == index:
            return scene
    raise ValueError(f"there is no held-out scene {index} with {objects} objects")


def _attribute(number: int, scene: spec.Scene, turn: int) -> Pair:
    """Another colour; every fourth time another material."""
    (thing,) = scene.objects
    if turn % 4 == 3:
        other = _with_object(scene, 0, material="matte" if thing.material == "shiny" else "shiny")
        return Pair(number, "attribute", scene, other, (scene, other))
    free = spec.allowed_colours(thing.shape)
    other = _with_object(scene, 0, colour=free[turn % len(free)])
    colours = tuple(_with_object(scene, 0, colour=colour) for colour in spec.COLOURS)
    return Pair(number, "attribute", *_either_way(scene, other, turn), colours)


def _background(number: int, scene: spec.Scene, turn: int) -> Pair:
    """Floor and sky by turns."""
    name, values = ("floor", spec.FLOORS) if turn % 2 == 0 else ("sky", spec.SKIES)
    candidates = tuple(replace(scene, **{name: value}) for value in values)
    others = [candidate for candidate in candidates if candidate != scene]
    return Pair(number, "background", scene, others[turn // 2 % len(others)], candidates)


def _style(number: int, scene: spec.Scene, turn: int) -> Pair:
    candidates = tuple(replace(scene, style=style) for style in spec.STYLES)
    return Pair(number, "style", scene, candidates[1 + turn % (len(candidates) - 1)], candidates)


def _object(number: int, scene: spec.Scene, turn: int) -> Pair:
    """Another shape of the same colour, moving alike."""
    (thing,) = scene.objects
    scene = _with_object(scene, 0, turn=thing.turn * _TURN / np.pi if abs(thing.turn) > _TURN else thing.turn)
    candidates = tuple(_with_object(scene, 0, shape=shape) for shape in spec.SHAPES)
    others = [candidate for candidate in candidates if candidate != scene]
    return Pair(number, "object", *_either_way(scene, others[turn % len(others)], turn), candidates)


def _one_of_two(number: int, scene: spec.Scene, turn: int) -> Pair:
    """Another colour of one of two objects, which take turns."""
    edited = turn % 2
    free = [colour for colour in spec.COLOURS if colour not in {thing.colour for thing in scene.objects}]
    target = _with_object(scene, edited, colour=free[turn % len(free)])
    candidates = tuple(_with_object(scene, edited, colour=colour) for colour in spec.COLOURS)
    return Pair(number, "one_of_two", scene, target, candidates, edited)


def _either_way(scene: spec.Scene, other: spec.Scene, turn: int) -> tuple[spec.Scene, spec.Scene]:
    return (scene, other) if turn % 2 == 0 else (other, scene)


def _with_object(scene: spec.Scene, index: int, **changes) -> spec.Scene:
    things = list(scene.objects)
    things[index] = replace(things[index], **changes)
    return replace(scene, objects=tuple(things))


def clips_to_render(pair: Pair, world: Path) -> Iterator[tuple[spec.Scene, Path]]:
    """The scenes whose passes the pair needs, and the folder of each: colours and styles need no rendering."""
    for scene in {candidate.objects[0].shape: candidate for candidate in pair.candidates}.values():
        yield scene, clip_folder(pair, scene, world)


def clip_folder(pair: Pair, scene: spec.Scene, world: Path) -> Path:
    return world / f"pair_{pair.number:04d}_{scene.objects[0].shape}"


@dataclass(frozen=True)
class Truth:
    """What is known of a pair. Clips are (F, side, side, 3) uint8, masks (F, side, side) bool."""

    source: np.ndarray
    target: np.ndarray
    wrong: list[np.ndarray]
    """The other candidates' clips; the source is one of them."""
    region: np.ndarray
    """Where the edit may change the picture: both masks of an object, the floor, or everything."""
    named: np.ndarray | None
    """What the pair's word names in the source."""
    other: tuple[np.ndarray, np.ndarray, list[np.ndarray]] | None
    """Of an object that must stay: its mask, and the clips in which it has its colour and each of the others."""
    passes: dict[str, np.ndarray]
    """Of the source."""


def truth(pair: Pair, world: Path, frames: int) -> Truth:
    """The first ``frames`` frames of everything that is known; what ``benchmarks.quality.render`` wrote is in ``world``."""

    @functools.cache
    def passes_of(shape: str) -> dict[str, np.ndarray]:
        scene = next(scene for scene in pair.candidates if scene.objects[0].shape == shape)
        return {name: values[:frames] for name, values in load_passes(clip_folder(pair, scene, world)).items()}

    def shown(scene: spec.Scene) -> np.ndarray:
        return compose(passes_of(scene.objects[0].shape), scene)

    passes = passes_of(pair.source.objects[0].shape)
    ground, covered = passes["ground"] > 127, passes["covers"].max(1) > 127
    if pair.kind == "style":
        named, region = None, np.ones_like(ground)
    elif pair.kind == "background":
        # Another time of day is another light on everything.
        named, region = (ground, ground) if pair.changes_floor else (~ground & ~covered, np.ones_like(ground))
    else:
        named = object_mask(passes, pair.edited)
        region = named | object_mask(passes_of(pair.target.objects[0].shape), pair.edited)
    other = None
    if pair.kind == "one_of_two":
        index = 1 - pair.edited
        colours = [colour for colour in spec.COLOURS if colour != pair.source.objects[index].colour]
        clips = [shown(_with_object(pair.source, index, colour=colour)) for colour in colours]
        other = object_mask(passes, index), shown(pair.source), clips
    return Truth(
        source=shown(pair.source),
        target=shown(pair.target),
        wrong=[shown(candidate) for candidate in pair.candidates if candidate != pair.target],
        region=region,
        named=named,
        other=other,
        passes=passes,
    )
