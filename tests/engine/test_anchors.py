"""Several anchors of a clip: where they stand, whom they serve, and that no more of them is held than is needed."""

import numpy as np
import pytest
import torch

from engine.editing import EditError
from engine.fatezero.attention import EMPTY, SOURCE, TARGET, Anchors, Call, Layer, SelfAttention, Source
from engine.fatezero.frames import TemporalSettings, calls
from engine.fatezero.keys import Served, fixed_frames, key_frames, several_anchors
from engine.keyframes import keyframes
from engine.parts import Part
from protocol.settings import apply_preset

from .test_method import FRAMES, HEADS, PIXELS, WIDTH, layer_of_attention, probabilities, put_out, random

LAYER = Layer(level=1, injects=True, gives_mask=True, anchored=True)


def test_anchors_stand_in_the_middles_of_equal_stretches():
    served = several_anchors("mid", 9, every=3)
    assert served[:6] == ((1, 1, 0), (1, 1, 0), (1, 4, 1 / 3), (1, 4, 2 / 3), (4, 4, 0), (4, 7, 1 / 3))
    assert served[6:] == ((4, 7, 2 / 3), (7, 7, 0), (7, 7, 0))
    assert {one.before for one in several_anchors("mid", 9)} == {fixed_frames(9)[1]}
    assert {one.before for one in several_anchors("last", 9, [4])} == {3, 8}


@pytest.mark.parametrize("every", [0, 1, 2, 5, 48])
@pytest.mark.parametrize("cuts", [[], [1], [20, 21, 33]])
def test_no_anchor_serves_across_a_cut_and_none_is_too_far(every, cuts):
    served = several_anchors("mid", 48, cuts, every)
    shot = np.searchsorted(cuts, range(48), side="right")
    for frame, (before, after, share) in enumerate(served):
        assert shot[before] == shot[frame] == shot[after]
        assert 0 <= share < 1 and (before <= frame < after if share else before == after)
        if every:
            assert after - before <= every and min(abs(frame - before), abs(frame - after)) <= every / 2
    for anchor in {anchor for one in served for anchor in one[:2]}:
        assert served[anchor] == Served(anchor, anchor, 0), "an anchor keeps to itself"


@pytest.mark.parametrize("size", [1, 3, 8, 47])
def test_a_walk_along_the_clip_holds_two_anchors_and_makes_none_twice(size):
    temporal = TemporalSettings(served=several_anchors("mid", 47, [20, 24], every=5))
    seen, made, held = [], [], {}
    for part, call in calls(temporal, (SOURCE,), 47, size, lambda share: None):
        assert len(held) <= 2, "held from one call to the next"
        held = call.several.held
        for anchor in call.several.made:
            assert int(part[call.several.made[anchor]]) == anchor
            held[anchor] = {}
            made.append(anchor)
        assert held.keys() >= set(call.several.frames)
        assert len(part) == size or size * (len(seen) // size + 1) > 47
        seen += part.tolist()
    assert sorted(seen) == list(range(47))
    assert sorted(made) == sorted({one.before for one in temporal.served}) and not held


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [(EMPTY, TARGET), (TARGET,)])
def test_attention_is_cross_faded_between_two_anchors_as_with_explicit_maps(rows, masked):
    attn, projected = layer_of_attention()
    mask = random(FRAMES, PIXELS) > 0
    states = {
        row: random(FRAMES, PIXELS, HEADS * WIDTH).roll(place) for place, row in enumerate((SOURCE, EMPTY, TARGET))
    }

    def several():  # the call's frames are 7, 8 and 9 of the clip, of which 7 and 9 are anchors
        return Anchors([7, 9], {7: 0, 9: 2}, before=[0, 0, 1], after=[0, 1, 1], shares=[0.0, 0.3, 0.0], held={})

    source = Source(self_attention=True, cross_attention=False)
    processor = SelfAttention(LAYER, current := [Call((SOURCE,), FRAMES, several=several(), leaves=source)])
    processor(attn, states[SOURCE])
    asked = dict(source=source, inject_self=True, mask=(lambda level: mask) if masked else None)
    current[0] = Call(rows, FRAMES, several=several(), **asked)
    out = processor(attn, torch.cat([states[row] for row in rows]))

    def attended(maps_of, values_of):
        query, key = projected(attn.to_q, states[maps_of]), projected(attn.to_k, states[maps_of])
        value = projected(attn.to_v, states[values_of])
        first, last = (probabilities(query, key[[anchor]]) @ value[[anchor]] for anchor in (0, 2))
        return torch.stack([first[0], 0.7 * first[1] + 0.3 * last[1], last[2]])

    keep_own = mask[:, None, :, None] if masked else torch.zeros(1, dtype=torch.bool)
    right = torch.where(keep_own, attended(TARGET, TARGET), attended(SOURCE, TARGET))
    expected = [attended(EMPTY, EMPTY), right][-len(rows) :]
    for actual, right in zip(out.split(FRAMES), expected, strict=True):
        torch.testing.assert_close(actual, put_out(attn, right), rtol=1e-4, atol=1e-5)


def shot(count: int, level: int) -> np.ndarray:
    """Noise about a level: pictures whose shot is plain."""
    noise = np.random.default_rng(level).integers(0, 32, (count, 32, 48, 3))
    return (level + noise).astype(np.uint8)


def test_keys_of_a_clip_with_cuts_are_those_of_its_shots():
    assert key_frames(("first", "-1", "last", "2"), 5, cuts=[2]) == [
        [0, 0, 2, 2, 2],
        [0, 0, 2, 2, 3],
        [1, 1, 4, 4, 4],
        [1, 1, 4, 4, 4],
    ]
    assert key_frames(("mid", "-1"), 6, cuts=[]) == key_frames(("mid", "-1"), 6)


@pytest.mark.parametrize("size", [2, 3, 8, None])
def test_calls_of_shots_with_several_keys_have_no_frame_in_common(size):
    temporal, seen, told = TemporalSettings(keys=("first", "last"), cuts=(1, 9, 14)), [], []
    shot = np.searchsorted(temporal.cuts, range(20), side="right")
    for part, call in calls(temporal, (SOURCE,), 20, size, told.append):
        assert len({shot[frame] for frame in part.tolist()}) == 1
        assert call.keys or len(call.anchors) == 0, "the first call of a shot leaves what the others take"
        seen += part.tolist()
    assert sorted(seen) == list(range(20)) and told == sorted(told) and all(0 < share < 1 for share in told)


def test_each_shot_has_a_keyframe_at_either_end():
    assert keyframes(20, 6, [8]) == [0, 6, 7, 8, 14, 19]
    assert keyframes(9, 4, [1, 2]) == [0, 1, 2, 6, 8]
    assert keyframes(20, 6) == [0, 6, 12, 18, 19] and keyframes(3, 1, [1]) == [0, 1, 2]


SHOTS = [
    dict(),
    dict(steady=2),
    dict(keyframe_step=3, steady=1),
    dict(keys=("first", "last")),
    dict(keys=("-1", "first"), keyframe_step=3),
]


@pytest.mark.parametrize("changes", SHOTS, ids=lambda changes: "-".join(changes) + "-".join(changes.get("keys", ())))
def test_each_shot_of_a_clip_is_edited_as_it_would_be_alone(editor, changes):
    """No frame sees another shot, so that what is cut together comes out as the shots do; and the user is told."""
    changes = dict(picture_weight=1.0, **changes)  # which one frame decides for all
    asked = apply_preset("attribute", "a red ball", "a blue ball", steps=2, **changes)
    shots = [shot(8, 20), shot(10, 180)]
    together = editor.edit(np.concatenate(shots), asked)
    names = {("first", "last"): "first and last frames", ("-1", "first"): "previous and first frames"}
    keeps = names.get(changes.get("keys"), "middle frame")
    assert f"The strip has a cut at frame 9: each shot keeps to its own {keeps}." in together.notes
    apart = np.concatenate([editor.edit(one, asked).frames for one in shots])
    assert np.abs(together.frames.astype(int) - apart).max() <= 1
    as_one = editor.edit(np.concatenate(shots), apply_preset(
        "attribute", "a red ball", "a blue ball", steps=2, anchor_cuts=False, **changes
    ))  # fmt: skip
    assert not any("cut" in note for note in as_one.notes)
    assert np.abs(as_one.frames.astype(int) - apart).max() > 1, "the cut makes no difference, so nothing is shown"


def test_shots_with_several_keys_are_not_parted(editor):
    """The calls of a shot are its own, and a part would have others; without a cut such a clip goes in parts."""
    asked = apply_preset("attribute", "a red ball", "a blue ball", steps=1, keys=("first", "last"))
    with pytest.raises(EditError) as error:
        editor.edit(np.concatenate([shot(8, 20), shot(8, 180)]), asked, part=Part(0, 8))
    assert error.value.code == "needs-whole-clip"
    assert len(editor.edit(shot(16, 20), asked, part=Part(0, 8)).frames) == 8
