"""A strip's fingerprint changes with what it shows, and with nothing else."""

from __future__ import annotations

import os

import bpy
import pytest

from tests.blender_addon.conftest import add_modifier, move


@pytest.fixture
def look(addon, project):
    """The strip's fingerprint as it is now."""
    return lambda strip: addon.fingerprint.of(project.scene, strip, addon.strips.describe(project.scene, strip))


def test_where_it_lies_is_nothing_to_it(addon, project, look):
    strip = project.image_strip()
    strip.transform.keyframe_insert("offset_y", frame=10)
    before = look(strip)
    strip.channel, strip.mute, strip.lock, strip.select = 5, True, True, False
    project.scene.frame_current = 77
    assert look(strip) == before != ""


def test_where_the_playhead_is_is_nothing_to_what_is_animated(addon, project, look):
    strip = project.image_strip()
    bpy.context.window.scene = project.scene
    for frame, alpha, offset in ((10, 0.0, 5.0), (15, 1.0, 30.0)):
        strip.blend_alpha, strip.transform.offset_x = alpha, offset
        strip.keyframe_insert("blend_alpha", frame=frame)
        strip.transform.keyframe_insert("offset_x", frame=frame)
    seen = set()
    for frame in (10, 12, 15):
        project.scene.frame_set(frame)
        seen.add((look(strip), round(strip.blend_alpha, 3)))
    assert len(seen) == 3 and len({look for look, _ in seen}) == 1


def test_every_change_of_the_picture_counts(addon, project, look):
    strip = project.image_strip()
    add_modifier(strip, "curves", "CURVES")

    def curve() -> bpy.types.FCurve:
        return next(addon.compat.fcurves(project.scene))

    seen = [look(strip)]
    (path, *_) = (project.folder / "media" / "clip").iterdir()
    for change in (
        lambda: os.utime(path, ns=(1, 1)),
        lambda: addon.compat.set_handles(strip, 11, 14),
        lambda: setattr(strip.transform, "offset_x", 3),
        lambda: setattr(strip.crop, "min_x", 2),
        lambda: setattr(strip, "blend_alpha", 0.5),
        lambda: setattr(strip, "use_flip_x", True),
        lambda: setattr(strip.colorspace_settings, "name", "Non-Color"),
        lambda: setattr(strip.modifiers[0].curve_mapping.curves[3].points[1], "location", (1.0, 0.5)),
        lambda: setattr(strip.elements[2], "filename", strip.elements[0].filename),
        lambda: strip.keyframe_insert("blend_alpha", frame=12),
        lambda: setattr(project.scene.render, "resolution_x", 128),
        lambda: setattr(curve().keyframe_points[0], "handle_right_type", "VECTOR"),
        lambda: setattr(curve(), "extrapolation", "LINEAR"),
        lambda: curve().modifiers.new("NOISE"),
        lambda: setattr(curve().modifiers[0], "strength", 2.0),
        lambda: setattr(curve(), "mute", True),
        lambda: setattr(strip, "blend_alpha", 0.25),  # which no curve moves any more
    ):
        change()
        seen.append(look(strip))
    assert len(set(seen)) == len(seen) and "" not in seen


def test_a_meta_and_an_effect_show_what_is_in_them(addon, project, look):
    strip = project.image_strip()
    effect = project.effect("GAUSSIAN_BLUR", "blur", 2, 10, 16, strip)
    first = look(effect)
    strip.blend_alpha = 0.3
    assert look(effect) != first
    inner = project.image_strip("inner", channel=4, start=20)
    meta = project.strips.new_meta(name="meta", channel=5, frame_start=20)
    inner.move_to_meta(meta)
    first = look(meta)
    inner.use_flip_y = True
    second = look(meta)
    move(inner, 1)
    seen = [first, second, look(meta)]
    for change in (
        lambda: inner.keyframe_insert("blend_alpha", frame=20),
        lambda: setattr(next(addon.compat.fcurves(project.scene)).keyframe_points[0], "co", (23, 0.5)),
        lambda: setattr(meta.channels[inner.channel], "mute", True),
    ):
        change()
        seen.append(look(meta))
    assert len(set(seen)) == len(seen) and "" not in seen


def test_what_cannot_be_told_has_none(addon, project, look):
    other = project.scene.copy()
    try:
        scene_strip = project.strips.new_scene(name="scene", scene=other, channel=3, frame_start=10)
        assert look(scene_strip) == ""
        masked = project.image_strip()
        add_modifier(masked, "mask", "MASK")
        assert look(masked) == ""
        driven = project.image_strip("driven", channel=2)
        driven.driver_add("blend_alpha").driver.expression = "frame / 20"
        assert look(driven) == ""
        strip = project.image_strip("plain", channel=3)
        assert look(strip)
        strip.keyframe_insert("blend_alpha", frame=12)
        animation = project.scene.animation_data
        animation.nla_tracks.new().strips.new("pushed down", 1, animation.action)
        assert look(strip) == ""
    finally:
        bpy.data.scenes.remove(other)
