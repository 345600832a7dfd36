"""The benchmark's edits: all different, with right answers in them, and nothing of training."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.pairs import KINDS, clip_folder, clips_to_render, pair, truth
from benchmarks.world import spec
from tests.benchmarks.flat_world import SIDE, flat_passes

PAIRS = [pair(number) for number in range(60)]


def test_a_number_gives_the_same_pair_and_every_scene_is_used_once():
    assert PAIRS == [pair(number) for number in range(60)]
    assert [its.kind for its in PAIRS[:5]] == list(KINDS)
    assert len({its.source.seed for its in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize("its", PAIRS, ids=lambda its: f"{its.number}-{its.kind}")
def test_the_candidates_hold_source_and_target_and_differ_in_one_thing(its):
    assert its.source != its.target and {its.source, its.target} <= set(its.candidates)
    assert len(set(its.candidates)) == len(its.candidates)
    source, target = its.prompts
    assert source != target and (its.word is None or its.word in source.split())
    fields = [
        name for name in ("objects", "floor", "sky", "style") if len({getattr(c, name) for c in its.candidates}) > 1
    ]
    assert len(fields) == 1 and (fields == ["objects"]) == (its.kind in ("attribute", "object", "one_of_two"))


def test_every_floor_sky_style_shape_and_material_is_edited_and_pairs_unseen_in_training_are_on_both_sides():
    def pairs_of(scene):
        return {(thing.colour, thing.shape) for thing in scene.objects}

    targets = [its.target for its in PAIRS]
    assert {scene.style for scene in targets} == set(spec.STYLES)
    for name, values in (("floor", spec.FLOORS), ("sky", spec.SKIES)):
        changed = {getattr(its.target, name) for its in PAIRS if getattr(its.target, name) != getattr(its.source, name)}
        assert len(changed) >= len(values) - 1
    chosen = [its for its in PAIRS if its.kind in ("attribute", "object")]
    into = [
        its for its in chosen if pairs_of(its.target) & spec.HELD_OUT_PAIRS and its.source.objects != its.target.objects
    ]
    assert len(into) >= len(chosen) // 3
    assert sum(bool(pairs_of(its.source) & spec.HELD_OUT_PAIRS) for its in PAIRS) >= len(PAIRS) // 2
    materials = [its for its in PAIRS if its.source.objects[0].material != its.target.objects[0].material]
    assert len(materials) == 3


@pytest.mark.parametrize("number", range(10))
def test_the_truth_changes_inside_the_region_alone(number, tmp_path):
    its = pair(number)
    for scene, folder in clips_to_render(its, tmp_path):
        folder.mkdir()
        np.savez(folder / "passes.npz", **flat_passes(scene))
    assert (tmp_path / clip_folder(its, its.target, tmp_path).name).is_dir()
    known = truth(its, tmp_path, 2)
    assert known.source.shape == known.target.shape == (2, SIDE, SIDE, 3)
    assert len(known.wrong) == len(its.candidates) - 1
    assert any(np.array_equal(known.source, clip) for clip in known.wrong)
    changed = (known.source != known.target).any(-1)
    assert (changed.any() or its.kind == "object") and not (changed & ~known.region).any()
    if its.kind == "one_of_two":
        place, kept, others = known.other
        assert np.array_equal(kept, known.source) and not (place & known.region).any()
        assert all((clip != kept).any(-1)[place].all() for clip in others)
    assert (known.named is None) == (its.kind == "style")


def test_turned_shapes_are_not_seen_from_behind():
    for its in PAIRS:
        if its.kind == "object":
            assert abs(its.source.objects[0].turn) <= 0.9
            assert replace(its.source.objects[0], shape="cube") == replace(its.target.objects[0], shape="cube")
