"""The editor on the tiny checkpoint: sizes, alpha, notes, cancelling, refusals."""

import numpy as np
import pytest
import torch

from engine.editing import EditError, Editor
from engine.geometry import Geometry
from protocol.settings import EditSettings, Window, apply_preset


def clip(frames=3, height=48, width=64, channels=3):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (frames, height, width, channels), dtype=np.uint8)


def settings(**changes):
    changes = {"steps": 3} | changes
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **changes)


def test_frames_come_back_in_number_size_and_order(editor):
    result = editor.edit(clip(), settings(mask_words=("cube", "grass")))
    assert result.frames.shape == (3, 48, 64, 3) and result.frames.dtype == np.uint8
    assert {word: mask.shape for word, mask in result.masks.items()} == {"cube": (3, 48, 64), "grass": (3, 48, 64)}
    assert all(mask.max() > 200 for mask in result.masks.values())
    assert result.notes == []


@pytest.mark.parametrize(("height", "width"), [(37, 91), (91, 37), (1, 1), (64, 256)])
def test_any_size_and_alpha_survive(editor, height, width):
    frames = clip(1, height, width, 4)
    result = editor.edit(frames, settings(steps=1))
    assert result.frames.shape == frames.shape
    assert np.array_equal(result.frames[..., 3], frames[..., 3])


def test_the_same_edit_gives_the_same_frames(editor):
    first, second = (editor.edit(clip(), settings()).frames for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "changes",
    [
        dict(keys=("first", "-1")),
        dict(normalization="clip"),
        dict(guidance=1.0),
        dict(cross_mode="replace", blend_source=("cube",), blend_target=("cube",), blend_latents=True),
        dict(word_windows={"blue": Window(0.2, 0.9)}, self_window=Window(0.0, 0.0), cross_window=Window(0.0, 0.0)),
    ],
)
def test_every_setting_runs(editor, changes):
    assert editor.edit(clip(2), settings(steps=6, **changes)).frames.shape == (2, 48, 64, 3)


def test_a_strength_that_cannot_act_is_told(editor):
    """As the built-in model's shape edits have no step in which words keep their layout."""
    shape = ("shape", "a red cube on grass", "a red torus on grass")
    strong, idle = {"word_weights": {"torus": 3.0}}, "The strength of 'torus' had no effect"
    told = [
        editor.edit(clip(1), apply_preset(*shape, steps=2, **changes)).notes
        for changes in (strong, {}, strong | {"word_windows": {"torus": Window(0.0, 0.5)}})
    ]
    assert [len(notes) for notes in told] == [1, 0, 0] and told[0][0].startswith(idle)
    window = Window(0.5, 1.0)  # of its steps, the second, reuse leaves none whole
    (note,) = editor.edit(clip(1), settings(steps=2, reuse=2, cross_window=window, word_weights={"blue": 2.0})).notes
    assert note.startswith("The strength of 'blue' had no effect")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_edits_come_near(editor, small_checkpoint, precision):
    half = Editor.load(str(small_checkpoint), device="cpu", precision=precision)
    assert half.unet.dtype == getattr(torch, precision) and half.checkpoint.vae.dtype == torch.float32
    asked = settings(steps=2, guidance=2.0, word_weights={})
    ours, theirs = (each.edit(clip(2), asked).frames.astype(int) for each in (half, editor))
    assert abs(ours - theirs).mean() < 4


@pytest.mark.parametrize("steady", [0, 2])
def test_progress_only_rises_and_ends_at_one(editor, steady):
    """Steadied frames leave some time after they are decoded."""
    seen = []
    editor.edit(clip(10), settings(steady=steady), seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == pytest.approx(1)
    assert list(dict.fromkeys(progress.stage for progress in seen)) == ["encode", "invert", "edit", "decode"]
    decoded = [progress.step for progress in seen if progress.stage == "decode"]
    assert decoded == sorted(decoded) and decoded[-1] == 10 and decoded.count(10) == 1


def test_an_exception_in_the_report_ends_the_edit_at_that_step(editor):
    class Stop(Exception):
        pass

    seen = []

    def report(progress):
        seen.append(progress)
        if progress.stage == "edit" and progress.step == 1:
            raise Stop

    with pytest.raises(Stop):
        editor.edit(clip(), settings(steps=20), report)
    assert (seen[-1].stage, seen[-1].step) == ("edit", 1)
    editor.edit(clip(1), settings(steps=1))


def test_a_clip_that_must_be_whole_and_does_not_fit_is_refused_with_the_range_that_would(editor):
    endless = np.broadcast_to(np.zeros((1, 48, 64, 3), np.uint8), (10**7, 48, 64, 3))
    with pytest.raises(EditError, match=r"take about .* GiB.* Edit at most \d+ frames at a time") as caught:
        editor.edit(endless, settings(normalization="clip"))
    assert caught.value.code == "memory"


def test_the_estimate_of_memory_is_above_what_is_used(editor):
    """Measured by the allocator's own count over a step's calls."""
    from engine.fatezero.attention import EMPTY, SOURCE, TARGET, Call, CrossEdit, Source, Text
    from engine.memory import bytes_per_frame

    geometry = editor.geometry(clip(4))
    width, height = (side // editor.checkpoint.factor for side in geometry.padded)
    x, text = torch.zeros(4, 4, height, width), Text(torch.zeros(77, editor.unet.unet.config.cross_attention_dim))

    def step():
        asked = Call((SOURCE,), 4, [[1] * 4], leaves=Source(self_attention=True, cross_attention=True))
        source, cross = editor.unet.leave(x, 1, text, asked), CrossEdit(torch.eye(77), torch.ones(77))
        edited = Call((EMPTY, TARGET), 4, [[1] * 4], source=source, cross=cross, inject_self=True)
        editor.unet([x] * 2, 1, [text] * 2, edited)

    step()  # after it the text is projected
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak <= 4 * bytes_per_frame(editor.checkpoint, geometry)


def test_words_that_were_cut_and_a_replace_that_became_refine_are_noted(editor):
    long = settings().source + " and" * 90
    result = editor.edit(clip(1), settings(steps=1, cross_mode="replace"))
    assert result.notes == []
    request = apply_preset("attribute", long, "a blue cube", steps=1, cross_mode="replace")
    notes = editor.edit(clip(1), request).notes
    assert "these words were cut: and and" in notes[0] and "aligned (refine) instead" in notes[1]


def test_a_word_beyond_the_cut_is_refused(editor):
    long = "a red" + " and" * 90 + " cube"
    for changes in ({"mask_words": ("cube",)}, {"blend_source": ("cube",), "blend_latents": True}):
        with pytest.raises(EditError, match="'cube' is beyond the cut"):
            editor.edit(clip(1), apply_preset("attribute", long, "a blue cube", **changes))


def test_bad_frames_and_settings_are_refused_in_words(editor):
    with pytest.raises(EditError, match="8 bits"):
        editor.edit(clip().astype(np.float32), settings())
    with pytest.raises(EditError, match="between 1 and 999"):
        editor.edit(clip(), EditSettings(source="a", target="b", steps=1001))


@pytest.mark.parametrize("size", [(128, 128), (1920, 1080), (1080, 1920), (33, 77), (3000, 100)])
def test_geometry_keeps_aspect_and_returns_the_size(size):
    geometry = Geometry.fit(*size, area=128 * 128, step=32)
    assert all(side % 32 == 0 for side in geometry.padded)
    assert all(inner <= outer for inner, outer in zip(geometry.content, geometry.padded))
    scale = [content / frame for content, frame in zip(geometry.content, size)]
    assert abs(scale[0] - scale[1]) <= 1.0 / min(size), "no more than a pixel's rounding"
    frames = np.full((2, size[1], size[0], 3), 90, np.uint8)
    shown = geometry.to_model(frames)
    assert tuple(shown.shape) == (2, 3, geometry.padded[1], geometry.padded[0])
    assert np.array_equal(geometry.to_frames(shown), frames)
