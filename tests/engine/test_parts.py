"""A clip in parts is the clip whole, bit for bit."""

import numpy as np
import pytest

from engine.clips import ArrayClip
from engine.editing import EditError, Editor
from engine.fatezero.keys import key_frames, several_anchors
from engine.keeping import Keep
from engine.parts import FRAMES_AT_ONCE, LEAST, Part, autoencoded_alike, can_be_parted, computed, cut, steady_reach
from protocol.settings import apply_preset

BLEND = dict(
    mask_words=("ball",), blend_source=("ball",), blend_target=("ball",), blend_latents=True, keep_background=True
)
PICTURE = dict(
    blend_source=("red", "ball"), blend_target=("blue",), mask="refined", word_weights={}, picture_weight=4.0
)


def settings(**changes):
    return apply_preset("attribute", "a red ball", "a blue ball", **(dict(steps=2) | changes))


@pytest.fixture(scope="module")
def editor(small_checkpoint):
    return Editor.load(str(small_checkpoint), device="cpu", precision="float32")


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 15, 32, 37, 48, 100, 500])
@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("keys", [("mid",), ("first", "last")])
def test_parts_make_up_the_clip(count, most, keys):
    parts = cut(settings(keys=keys), count, most)
    assert [frame for part in parts for frame in range(part.first, part.end)] == list(range(count))
    assert 1 <= len(parts) <= most
    anchors = {chosen[0] for chosen in key_frames(keys, count)}
    for part in parts[:-1]:
        frames = anchors.union(range(part.first, part.end))
        assert computed(part, count, keys) == sorted(frames), "more than it needs"
        assert len(frames) % FRAMES_AT_ONCE == 0 and len(frames) >= LEAST, "calls that are not full"
    assert len(computed(parts[-1], count, keys)) % FRAMES_AT_ONCE == count % FRAMES_AT_ONCE


@pytest.mark.parametrize(("count", "every", "cuts"), [(100, 12, []), (93, 5, [40, 41, 77]), (500, 0, [250])])
def test_parts_take_along_the_anchors_that_their_frames_need(count, every, cuts):
    served = several_anchors("mid", count, cuts, every)
    parts = cut(settings(anchor_every=every), count, 4)
    assert [frame for part in parts for frame in range(part.first, part.end)] == list(range(count))
    for part in [*parts, Part(3, 9), Part(count - 9, count - 2), Part(count - 2, count)]:
        frames = computed(part, count, ("mid",), served)
        assert set(frames).issuperset(range(part.first, part.end))
        assert all({*served[frame][:2]} <= set(frames) for frame in frames)
        assert len(frames) % FRAMES_AT_ONCE == (count % FRAMES_AT_ONCE if part.end == count else 0)
        assert len(frames) <= part.count + 3 + 2 * FRAMES_AT_ONCE


@pytest.mark.parametrize("changes", [dict(keys=("mid", "-1")), dict(normalization="clip")])
def test_what_needs_the_whole_clip_is_not_cut(changes, editor):
    asked = settings(**changes)
    assert not can_be_parted(asked)
    assert cut(asked, 500, 8) == [Part(0, 500)]
    with pytest.raises(EditError) as error:
        editor.edit(frames(20), asked, part=Part(0, 10))
    assert error.value.code == "needs-whole-clip"


@pytest.mark.parametrize("steady", [2, 4, 8])
def test_no_part_but_the_last_is_steadied_with_frames_of_the_last_call(steady):
    for count in range(32, 120):
        parts = cut(settings(steady=steady), count, 8)
        full = count - count % FRAMES_AT_ONCE
        assert all(part.end + steady_reach(steady) <= full for part in parts[:-1]), count


def test_the_last_frame_is_no_key_of_parts_where_the_whole_encodes_it_in_a_shorter_group(editor):
    with pytest.raises(EditError) as error:
        editor.edit(frames(45), settings(keys=("first", "last")), part=Part(0, 16))
    assert error.value.code == "needs-whole-clip"
    assert autoencoded_alike(("last",), 45, at_once=1) and autoencoded_alike(("mid",), 45, at_once=8)
    assert not autoencoded_alike(("mid",), 48, at_once=3), "a part of 16 frames would end in a group of one"


def test_the_middle_frame_is_there_where_it_decides_something():
    part = Part(64, 100)
    assert 49 not in computed(part, 100, ("first",)) and 49 in computed(part, 100, ("first",), middle=True)
    served = several_anchors("mid", 100, cuts=[40])
    assert {49, *(served[49][:2])} <= set(computed(part, 100, ("mid",), served, middle=True))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        BLEND,
        dict(BLEND, keys=("first", "last")),
        dict(BLEND, anchor_every=6),
        dict(BLEND, steady=2),
        dict(anchor_every=6, steady=2),
        dict(PICTURE, keys=("first",)),
        dict(PICTURE, anchor_every=6),
    ],
    ids=[
        "plain",
        "blend",
        "two keys",
        "several anchors and a cut",
        "steadied",
        "steadied and a cut",
        "words for the picture",
        "words for the picture and a cut",
    ],
)
def test_parts_are_the_whole_bit_for_bit(editor, tmp_path, changes):
    count = 48 if "last" in changes.get("keys", ()) else 45
    asked, clip = settings(**changes), ArrayClip(frames(count))
    if changes.get("anchor_every"):
        clip = ArrayClip(np.concatenate([frames(29) // 8, 224 + frames(16) // 8]))
    whole = editor.edit(clip, asked)
    parts = [*cut(asked, count, 3), Part(3, 9)]  # the last: whatever a part is
    assert len(parts) > 2
    for number, part in enumerate(parts):
        keep = Keep(tmp_path / "cache", tmp_path / f"job-{number}")
        own = editor.edit(clip, asked, keep=keep, part=part)
        assert np.array_equal(own.frames, whole.frames[part.first : part.end]), part
        for word, masks in own.masks.items():
            assert np.array_equal(masks, whole.masks[word][part.first : part.end]), (part, word)
    assert not np.array_equal(whole.frames, clip[:]), "an edit that changes nothing proves nothing"
