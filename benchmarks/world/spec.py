"""What the world consists of, how a scene is drawn from a seed, and how it is said in words.

Pure numpy; the same seed gives the same scene on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHAPES = ("cube", "sphere", "cone", "cylinder", "torus", "monkey")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
MATERIALS = ("matte", "shiny")
FLOORS = ("checkered", "wood", "grass", "snow", "sand")
SKIES = ("day", "sunset", "night")
MOTIONS = ("still", "slide", "spin", "bounce")
CAMERA_MOTIONS = ("still", "orbit", "dolly")
STYLES = ("plain", "watercolor", "sketch", "pixel")

#: Colour-shape pairs that no training picture and no training caption ever shows: editing into one of them is
#: zero-shot. Each word occurs in plenty of other pairs.
HELD_OUT_PAIRS = frozenset(
    {("red", "cone"), ("blue", "cube"), ("green", "sphere"), ("yellow", "torus"), ("purple", "cylinder")}
)

_FLOOR_PHRASES = {
    "checkered": ("on a checkered floor",),
    "wood": ("on a wood floor",),
    "grass": ("on grass",),
    "snow": ("on snow",),
    "sand": ("on sand",),
}
_SKY_PHRASES = {
    "day": ("under a day sky", "during the day"),
    "sunset": ("under a sunset sky", "at sunset"),
    "night": ("under a night sky", "at night"),
}
#: Said last, so that all other words keep their places in the caption.
_STYLE_PHRASES = {"plain": "", "watercolor": " as a watercolor", "sketch": " as a sketch", "pixel": " as pixel art"}
_MOTION_WORDS = {"still": "standing", "slide": "sliding", "spin": "spinning", "bounce": "bouncing"}
_TRAINING, _EVALUATION = 1, 2  # first word of the seed: the two streams never meet


@dataclass(frozen=True)
class Thing:
    """One object. ``size`` is half its width in metres, ``place`` its (right, away) offset from the scene's middle."""

    shape: str
    colour: str
    material: str = "matte"
    motion: str = "still"
    size: float = 1.0
    place: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0  # heading at the first frame, radians; at 0 it faces the camera's first place
    sense: float = 1.0  # +1 or -1: the way it slides or spins


@dataclass(frozen=True)
class Camera:
    """Looks at the middle of the scene. Distances in metres, ``azimuth`` in radians."""

    motion: str = "still"
    azimuth: float = 0.0
    distance: float = 7.0
    height: float = 2.2
    sense: float = 1.0


@dataclass(frozen=True)
class Scene:
    """One clip, whole. Edits are ``dataclasses.replace`` of colour, material, floor, sky or style: geometry stays."""

    objects: tuple[Thing, ...]
    floor: str
    sky: str
    camera: Camera = Camera()
    sun: float = 0.8  # azimuth of the light relative to the camera's, radians
    seed: int = 0
    style: str = "plain"


def allowed_colours(shape: str, held_out: bool = False) -> tuple[str, ...]:
    """The colours in which ``shape`` may be shown in training, or (``held_out``) in evaluation only."""
    return tuple(colour for colour in COLOURS if ((colour, shape) in HELD_OUT_PAIRS) == held_out)


def sample_scene(seed: int, held_out: bool = False) -> Scene:
    """The scene of a seed.

    ``held_out`` draws from a stream of its own, and the first object shows a colour-shape pair of
    ``HELD_OUT_PAIRS``; every other object, here and in training, shows an allowed pair.
    """
    rng = np.random.default_rng([_EVALUATION if held_out else _TRAINING, seed])
    count = 2 if rng.random() < 0.3 else 1
    if held_out:
        colour, shape = sorted(HELD_OUT_PAIRS)[rng.integers(len(HELD_OUT_PAIRS))]
        first = (shape, colour)
    else:
        shape = _pick(rng, SHAPES)
        first = (shape, _pick(rng, allowed_colours(shape)))
    things = [_sample_thing(rng, *first, place=_place(rng, 0, count), count=count)]
    if count == 2:
        shape = _pick(rng, [s for s in SHAPES if s != things[0].shape])
        colour = _pick(rng, [c for c in allowed_colours(shape) if c != things[0].colour])
        things.append(_sample_thing(rng, shape, colour, place=_place(rng, 1, count), count=count))
    camera = Camera(
        motion=_pick(rng, CAMERA_MOTIONS),
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        distance=float(rng.uniform(6.2, 7.8)),
        height=float(rng.uniform(1.8, 3.0)),
        sense=_sign(rng),
    )
    sun = float(_sign(rng) * rng.uniform(0.5, 1.5))
    return Scene(tuple(things), _pick(rng, FLOORS), _pick(rng, SKIES), camera, sun, seed)


def caption(scene: Scene, variant: int = 0) -> str:
    """The scene in words. Variant 0 is the plain form used for evaluation; other numbers give paraphrases.

    >>> caption(Scene((Thing("cube", "red"),), "grass", "night"))
    'a red cube standing on grass under a night sky'
    """
    rng = np.random.default_rng([3, variant]) if variant else None

    def choose(options):
        return options[0] if rng is None else options[rng.integers(len(options))]

    with_motion = choose((True, True, False))
    nouns = [_noun(thing, with_motion, choose) for thing in scene.objects]
    if rng is not None and rng.random() < 0.5:
        nouns.reverse()
    floor = choose(_FLOOR_PHRASES[scene.floor])
    sky = choose(_SKY_PHRASES[scene.sky])
    order = choose(("plain", "plain", "plain", "plain", "sky first", "no sky"))
    body = f"{' and '.join(nouns)} {floor}"
    if order == "sky first":
        body = f"{sky} {body}"
    elif order != "no sky":
        body = f"{body} {sky}"
    return body + _STYLE_PHRASES[scene.style]


def _noun(thing: Thing, with_motion: bool, choose) -> str:
    # 'matte' is the unmarked case: it is said in one paraphrase of three, 'shiny' in two.
    said = thing.material == "shiny" or choose((False, False, True))
    if thing.material == "shiny":
        said = choose((True, True, False))
    words = ["a", *([thing.material] if said else []), thing.colour, thing.shape]
    if words[1][0] in "aeiou":
        words[0] = "an"
    if with_motion:
        words.append(_MOTION_WORDS[thing.motion])
    return " ".join(words)


def _sample_thing(rng, shape: str, colour: str, place: tuple[float, float], count: int) -> Thing:
    low, high = (0.85, 1.15) if count == 1 else (0.7, 0.85)
    # A ring seen edge-on and a monkey seen from behind are not what anybody means by the word.
    turn = 0.9 if shape in ("torus", "monkey") else np.pi
    return Thing(
        shape,
        colour,
        material="shiny" if rng.random() < 0.3 else "matte",
        motion=_pick(rng, MOTIONS),
        size=float(rng.uniform(low, high)),
        place=place,
        turn=float(rng.uniform(-turn, turn)),
        sense=_sign(rng),
    )


def _place(rng, index: int, count: int) -> tuple[float, float]:
    if count == 1:
        return float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.5, 0.5))
    return (-1.25, 1.25)[index] + float(rng.uniform(-0.15, 0.15)), float(rng.uniform(-0.4, 0.4))


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def _sign(rng) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
