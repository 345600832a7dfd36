"""Settings: presets, and the sentence for each that no edit can be made with."""

import math

import msgspec
import pytest

from protocol.settings import (
    OWN_MASKS,
    PRESETS,
    EditSettings,
    Preset,
    SettingsError,
    Window,
    apply_preset,
    check,
    draft_of,
    for_masks,
    in_full,
)
from protocol.tuning import Tuning, usual
from protocol.tuning import check as check_tuning

SOURCE, TARGET = "a red cube on grass", "a blue cube on grass"


def test_a_preset_strengthens_the_new_words():
    assert apply_preset("attribute", SOURCE, TARGET, model="sd").word_weights == {"blue": 5.0}
    style = "style", SOURCE, "watercolor of " + SOURCE
    assert apply_preset(*style, model="sd").word_weights == {"watercolor": 10.0, "of": 10.0}
    assert apply_preset(*style).word_weights == {}
    assert apply_preset("reconstruct", SOURCE, "").target == SOURCE


def test_the_shape_preset_blends_the_words_that_differ():
    settings = apply_preset("shape", SOURCE, "a red ball on grass")
    assert (settings.blend_source, settings.blend_target) == (("cube",), ("ball",))


def test_the_built_in_model_has_its_own_presets():
    small, paper = Preset.of("style", "builtin"), Preset.of("style", "sd")
    assert small.values["guidance"] < paper.values["guidance"] == 7.5
    assert paper.values["cross_window"] == Window(0.0, 0.8)
    assert apply_preset("style", SOURCE, TARGET).guidance == small.values["guidance"]


def test_a_model_tuned_from_the_built_in_one_takes_its_presets():
    for preset in PRESETS:
        small = Preset.of(preset, "builtin")
        assert Preset.of(preset, "mine", base="builtin") == small != Preset.of(preset, "mine")
        settings = apply_preset(preset, SOURCE, TARGET, base="builtin", model="mine")
        assert settings == msgspec.structs.replace(apply_preset(preset, SOURCE, TARGET), model="mine")


def test_what_is_given_goes_before_the_preset():
    settings = apply_preset("attribute", SOURCE, TARGET, guidance=2.0, word_weights={})
    assert (settings.guidance, settings.word_weights) == (2.0, {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": " "}, "source prompt is empty"),
        ({"target": ""}, "target prompt is empty"),
        ({"steps": 0}, "between 1 and 999"),
        ({"reuse": 0}, "between 1 and 10"),
        ({"guidance": 51.0}, "between 0 and 50"),
        ({"guidance": float("nan")}, "between 0 and 50"),
        ({"guidance_fall": 1.5}, "between 0 and 1"),
        ({"blend_reach": -0.1}, "between 0 and 1"),
        ({"cross_mode": "swap"}, "refine, replace"),
        ({"self_window": Window(0.6, 0.5)}, "run forward"),
        ({"word_windows": {"blue": Window(0.0, 1.5)}}, "word_windows of 'blue'"),
        ({"word_weights": {"green": 2.0}}, "not a word of the target prompt"),
        ({"blend_source": ("sphere",)}, "not a word of the source prompt"),
        ({"blend_latents": True}, "To blend latents, name the words"),
        ({"keep_background": True}, "To keep the background, name the words"),
        ({"mask": "sharp"}, "mask is 'sharp'; choose one of paper, refined"),
        ({"own_mask": "invert"}, "replace, limit, add, subtract"),
        ({"own_mask": "limit"}, "has nothing to act on"),
        ({"own_mask": "subtract"}, "has nothing to act on"),
        ({"own_mask": "replace", "blend_attention": False}, "keep the background, or blend latents"),
        ({"own_mask": "limit", "blend_attention": False, "blend_source": ("cube",)}, "has nothing to act on"),
        ({"keys": ()}, "names no frame"),
        ({"keys": ("²",)}, "keys has '²'"),
        ({"keys": ("+-1",)}, "keys has '+-1'"),
        ({"precision": "int4"}, "float32"),
        ({"normalization": "none"}, "frame, clip"),
        ({"anchor_every": -1}, "anchor_every is -1"),
        ({"anchor_every": 12, "keys": ("first",)}, "set keys to 'mid', or anchor_every to 0"),
        ({"anchor_every": 12, "normalization": "clip"}, "set it to 'frame', or anchor_every to 0"),
    ],
)
def test_each_setting_out_of_range_is_one_sentence(changes, words):
    settings = msgspec.structs.replace(EditSettings(source=SOURCE, target=TARGET), **changes)
    with pytest.raises(SettingsError) as refused:
        check(settings)
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"own_mask": "replace"},
        {"own_mask": "add"},
        {"own_mask": "limit", "keep_background": True},
        {"own_mask": "subtract", "blend_latents": True},
        {"own_mask": "limit", "blend_source": (SOURCE.split()[0],)},
    ],
    ids=str,
)
def test_an_own_mask_stands_in_for_blend_words(changes):
    check(msgspec.structs.replace(EditSettings(source=SOURCE, target=TARGET), **changes))


@pytest.mark.parametrize("mode", OWN_MASKS)
@pytest.mark.parametrize("model", ["builtin", "sd"])
@pytest.mark.parametrize("preset", ["style", "attribute", "shape", "reconstruct"])
def test_an_own_mask_acts_whatever_the_preset_and_the_words(preset, model, mode):
    words = "a ball", "a ball on grass"  # none that names a place
    settings = apply_preset(preset, *words, model=model, own_mask=mode)
    assert settings.keep_background
    assert settings.blend_latents == (model == "builtin" and preset in ("attribute", "shape"))
    assert apply_preset(preset, *words, model=model, own_mask="") == apply_preset(preset, *words, model=model)


def test_an_own_mask_leaves_what_is_said_of_the_background():
    settings = apply_preset("shape", SOURCE, "a red ball on grass", own_mask="limit", keep_background=False)
    assert not settings.keep_background and settings.blend_latents


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match="choose one of style, attribute, shape, reconstruct"):
        apply_preset("colour", SOURCE, TARGET)


def test_the_built_in_model_blends_latents_where_words_change():
    settings = apply_preset("attribute", SOURCE, TARGET)
    assert settings.blend_source and settings.blend_target and not settings.blend_attention
    assert settings.blend_latents and settings.blend_steps.end == 1.0
    assert not apply_preset("attribute", SOURCE, TARGET, model="sd").blend_source
    added = apply_preset("attribute", "a ball", "a ball on grass")
    assert not added.blend_source and not added.blend_latents  # no word of the source says where


def test_the_built_in_model_keeps_the_background_where_words_say_what_changes():
    for preset in ("attribute", "shape"):
        settings = apply_preset(preset, SOURCE, TARGET)
        assert settings.keep_background and (settings.mask, settings.blend_threshold) == ("refined", 0.4)
        assert not apply_preset(preset, SOURCE, TARGET, keep_background=False).keep_background
        assert not apply_preset(preset, SOURCE, TARGET, blend_source=(), blend_latents=False).keep_background
        other = apply_preset(preset, SOURCE, TARGET, model="sd")
        assert (other.mask, other.blend_threshold, other.keep_background) == ("paper", 0.3, False)
    assert not apply_preset("attribute", "a ball", "a ball on grass").keep_background  # no word says where
    assert apply_preset("reconstruct", SOURCE, "").guidance == 1.0
    assert for_masks(apply_preset("style", SOURCE, "a sketch of " + SOURCE)).mask == "refined"


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_a_draft_knows_what_it_is_a_draft_of(steps):
    full = apply_preset("attribute", SOURCE, TARGET, steps=steps)
    draft = draft_of(full)
    assert (draft.steps, draft.reuse) == (math.ceil(0.75 * steps), 5)
    assert in_full(draft) == full == in_full(full) and draft_of(draft) == draft
    check(draft)


def test_the_built_in_model_is_tuned_in_few_steps():
    plain = Tuning(name="mine")
    assert usual("mine") == (plain.steps, plain.rate) == (500, 3e-5), "the paper's"
    assert usual("builtin").steps < plain.steps and usual("builtin").rate > plain.rate
    check_tuning(Tuning(name="mine", **usual("builtin")._asdict()))
