"""The rendered world without Blender: scenes, captions, colouring."""

import doctest
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training.pictures import ALL, NOTHING, recolour, region_shares, word_regions
from benchmarks.world import compose, spec
from tests.benchmarks.flat_world import SIDE, flat_passes


def test_a_seed_gives_the_same_scene_and_another_seed_another():
    assert [spec.sample_scene(seed) for seed in range(20)] == [spec.sample_scene(seed) for seed in range(20)]
    assert len({spec.sample_scene(seed) for seed in range(200)}) == 200
    assert spec.sample_scene(5) != spec.sample_scene(5, held_out=True)


def test_held_out_pairs_are_never_in_training():
    rng = np.random.default_rng(0)
    for seed in range(1000):
        scene = spec.sample_scene(seed)
        for shown in (scene, recolour(scene, rng)):
            assert not {(thing.colour, thing.shape) for thing in shown.objects} & spec.HELD_OUT_PAIRS


def test_every_held_out_pair_is_evaluated_and_its_words_are_known_from_training():
    evaluated = {(s.objects[0].colour, s.objects[0].shape) for s in (spec.sample_scene(n, True) for n in range(100))}
    assert evaluated == spec.HELD_OUT_PAIRS
    trained = [spec.sample_scene(seed).objects[0] for seed in range(500)]
    for colour, shape in spec.HELD_OUT_PAIRS:
        assert any(thing.colour == colour for thing in trained)
        assert any(thing.shape == shape for thing in trained)


def test_the_built_in_models_words_are_those_of_the_captions():
    profile = Path(__file__).parents[2] / "engine" / "models" / "builtin" / "profile.json"
    scenes = [replace(spec.sample_scene(seed), style=spec.STYLES[seed % len(spec.STYLES)]) for seed in range(400)]
    said = {word for seed, scene in enumerate(scenes) for word in spec.caption(scene, seed).split()}
    assert said == set(json.loads(profile.read_text())["words"])


def test_captions_name_what_is_seen():
    assert doctest.testmod(spec).failed == 0
    for seed in range(100):
        scene = spec.sample_scene(seed)
        for variant in range(10):
            text = spec.caption(scene, variant)
            assert text == spec.caption(scene, variant)
            for thing in scene.objects:
                assert f"{thing.colour} {thing.shape}" in text
            assert scene.floor in text
    assert "under a day sky" in spec.caption(replace(scene, sky="day"))


def test_two_objects_never_share_a_colour_or_a_shape():
    for seed in range(300):
        things = spec.sample_scene(seed).objects
        assert len({thing.colour for thing in things}) == len({thing.shape for thing in things}) == len(things)


@pytest.mark.parametrize("colour", spec.COLOURS)
def test_an_object_takes_its_colour_and_nothing_else_changes(colour):
    source = spec.Scene((spec.Thing("cube", "red"),), "sand", "day")
    target = replace(source, objects=(replace(source.objects[0], colour=colour),))
    passes = flat_passes(source)
    before, after = compose.compose(passes, source), compose.compose(passes, target)
    mask = compose.object_mask(passes, 0)
    assert mask.shape == (2, SIDE, SIDE) and before.shape == (2, SIDE, SIDE, 3) and before.dtype == np.uint8
    assert np.array_equal(before[~mask], after[~mask])
    # By day the light on a fully lit white surface is the sum of the high sun's and the sky's colours.
    light = np.array(compose._LIGHTS["day"]).sum(0)
    linear = np.clip(np.array(compose.ALBEDO[colour]) * light, 0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(after[mask].astype(float) - srgb * 255).max() <= 1


def test_skies_and_floors_differ_and_noise_repeats():
    scene = spec.Scene((spec.Thing("cube", "red"),), "sand", "day")
    passes = flat_passes(scene)
    looks = {
        (floor, sky): compose.compose(passes, replace(scene, floor=floor, sky=sky))
        for floor in spec.FLOORS
        for sky in spec.SKIES
    }
    assert len({look.tobytes() for look in looks.values()}) == len(looks)
    assert np.array_equal(looks["sand", "day"], compose.compose(passes, scene))
    assert looks["snow", "day"].mean() > looks["snow", "night"].mean() + 40


def test_words_know_their_regions():
    things = (spec.Thing("cube", "red", "shiny", "slide"), spec.Thing("torus", "cyan", motion="still"))
    scene = spec.Scene(things, "checkered", "sunset")
    words = [
        "a",
        "cyan",
        "torus",
        "and",
        "a",
        "shiny",
        "red",
        "cube",
        "sliding",
        "on",
        "a",
        "checkered",
        "floor",
        "under",
        "a",
        "sunset",
        "sky",
    ]
    assert word_regions(words, scene) == [-1, 1, 1, -1, -1, 0, 0, 0, 0, -1, -1, 2, 2, -1, -1, 4, 3]
    for seed in range(200):
        scene = spec.sample_scene(seed)
        for variant in range(20):
            words = spec.caption(scene, variant).split()
            named = dict(zip(words, word_regions(words, scene), strict=True))
            assert all(named[thing.colour] == named[thing.shape] == n for n, thing in enumerate(scene.objects))
            assert named["on"] == named["a" if "a" in named else "an"] == NOTHING


def test_styles_are_drawn_over_everything_alike():
    scene = spec.Scene((spec.Thing("cube", "red"),), "checkered", "day")
    passes = flat_passes(scene)
    plain = compose.compose(passes, scene)
    looks = [compose.compose(passes, replace(scene, style=style)) for style in spec.STYLES]
    assert np.array_equal(looks[0], plain)
    assert all(look.shape == plain.shape and look.dtype == np.uint8 for look in looks)
    assert len({look.tobytes() for look in looks}) == len(looks)
    watercolor, sketch, pixel = (look.astype(int) for look in looks[1:])
    assert watercolor.mean() > plain.mean() and watercolor.std() < 0.8 * plain.std()
    assert np.ptp(sketch, axis=-1).max() < 20 and sketch.mean() > 150
    assert np.array_equal(pixel[:, ::8].repeat(8, axis=1), pixel) and len(np.unique(pixel)) <= 8


def test_a_style_is_said_last_and_names_the_whole_picture():
    scene = spec.sample_scene(3)
    for style in spec.STYLES[1:]:
        shown = replace(scene, style=style)
        for variant in range(10):
            said, plain = spec.caption(shown, variant), spec.caption(scene, variant)
            assert said.startswith(plain + " as ") and style in said
            named = dict(zip(said.split(), word_regions(said.split(), shown), strict=True))
            assert named[style] == ALL and named["as"] == NOTHING


def test_region_shares_cover_the_picture():
    scene = spec.sample_scene(3)
    shares = region_shares(flat_passes(scene), 0)
    assert shares.shape == (4, 32, 32)
    assert np.all(shares.astype(int).sum(0) == 255)
