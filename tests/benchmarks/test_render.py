"""Rendering with the real Blender module."""

from dataclasses import replace

import bpy
import numpy as np
import pytest

from benchmarks.metrics import warp_error
from benchmarks.world import compose, exr, geometry, spec
from benchmarks.world.motion import true_motion
from benchmarks.world.render import render_passes

SCENE = spec.Scene(
    (
        spec.Thing("sphere", "red", size=0.8, place=(-1.2, 0.0)),
        spec.Thing("cube", "cyan", motion="slide", place=(1.2, 0.0)),
    ),
    "checkered",
    "day",
)
FRAMES, SIDE = 2, 48


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    scenes = set(bpy.data.scenes.keys())
    seen = []
    path = render_passes(SCENE, FRAMES, SIDE, tmp_path_factory.mktemp("clip"), seen.append)
    assert seen == [0, 1]
    assert set(bpy.data.scenes.keys()) == scenes
    return path


def test_passes_have_their_shapes_and_cover_the_picture(rendered):
    passes = compose.load_passes(rendered)
    assert passes["light"].shape == (FRAMES, SIDE, SIDE, 3)
    assert passes["covers"].shape == (FRAMES, 2, SIDE, SIDE)
    assert passes["motion"].shape == (FRAMES, SIDE, SIDE, 2)
    assert passes["camera"].shape == (FRAMES, 3, 4)
    assert np.all(passes["ground"][:, -1] == 255) and np.all(passes["ground"][:, 0] == 0)
    assert [path.name for path in rendered.parent.iterdir()] == ["passes.npz"]


def test_objects_are_where_the_geometry_says(rendered):
    passes = compose.load_passes(rendered)
    for frame in range(FRAMES):
        rotation = geometry.camera_rotation(SCENE, frame / FRAMES)
        for index in range(2):
            way = geometry.object_pose(SCENE, index, frame / FRAMES)[0] - geometry.camera_position(
                SCENE, frame / FRAMES
            )
            right, up, back = way @ rotation
            expected = np.array([right / -back, -up / -back]) / geometry.HALF_VIEW * SIDE / 2 + SIDE / 2
            y, x = np.nonzero(compose.object_mask(passes, index)[frame])
            assert np.abs([x.mean() + 0.5, y.mean() + 0.5] - expected).max() < 2


def test_motion_leads_to_the_next_frame(rendered):
    passes = compose.load_passes(rendered)
    mask = compose.object_mask(passes, 1)
    centres = [np.nonzero(mask[frame])[1].mean() for frame in range(FRAMES)]
    moved = np.median(passes["motion"][0][mask[0]], axis=0)
    assert moved[0] == pytest.approx(centres[1] - centres[0], abs=1)
    assert moved[1] == pytest.approx(0, abs=1)
    assert np.abs(passes["motion"][0][compose.object_mask(passes, 0)[0]]).max() < 0.05


def test_pixels_are_seen_again_where_the_motion_leads(rendered):
    passes = compose.load_passes(rendered)
    pictures = compose.compose(passes, SCENE)
    motion, seen = true_motion(passes)
    cyan = compose.object_mask(passes, 1)
    assert seen[0][cyan[0]].mean() > 0.8 and not seen[-1].any()
    # Where the cube goes to, the floor is hidden.
    uncovered = cyan[1] & ~cyan[0]
    assert uncovered.any() and not seen[0][uncovered].any()
    assert warp_error(pictures, motion, seen) < 0.6 * warp_error(pictures, 0 * motion, seen)


def test_the_sky_moves_as_the_camera_turns(tmp_path):
    scene = replace(SCENE, camera=spec.Camera("dolly", distance=6.5, height=3.0))
    passes = compose.load_passes(render_passes(scene, FRAMES, SIDE, tmp_path))
    motion, _ = true_motion(passes)
    middle = motion[0, 0, SIDE // 2]
    before, after = (geometry.camera_rotation(scene, frame / FRAMES) for frame in range(2))
    tilt = np.arcsin(before[2, 2]) - np.arcsin(after[2, 2])
    assert middle[1] == pytest.approx(tilt / 2 / np.arctan(geometry.HALF_VIEW) * SIDE, rel=0.15)
    assert middle[0] == pytest.approx(0, abs=0.1)


def test_colours_show(rendered):
    passes = compose.load_passes(rendered)
    pictures = compose.compose(passes, SCENE).astype(int)
    red, cyan = (pictures[compose.object_mask(passes, index)].mean(0) for index in range(2))
    assert red[0] > 2 * red[1] and cyan[2] > 1.5 * cyan[0]


def test_a_finished_clip_is_not_rendered_again(rendered):
    written, seen = rendered.stat().st_mtime_ns, []
    assert render_passes(SCENE, FRAMES, SIDE, rendered.parent, seen.append) == rendered
    assert rendered.stat().st_mtime_ns == written and not seen


def test_the_same_scene_renders_the_same(rendered, tmp_path):
    again = compose.load_passes(render_passes(SCENE, FRAMES, SIDE, tmp_path))
    first = compose.load_passes(rendered)
    for name, values in first.items():
        assert np.allclose(values.astype(float), again[name].astype(float), atol=1e-2), name


def test_other_exr_files_are_refused(tmp_path):
    path = tmp_path / "x.exr"
    path.write_bytes(b"\x76\x2f\x31\x01" + (0x1002).to_bytes(4, "little"))
    with pytest.raises(ValueError, match="single-part"):
        exr.read_exr(path)
