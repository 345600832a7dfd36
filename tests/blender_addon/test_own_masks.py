"""The user's own mask, exported as Blender shows it: one grey frame for each of the strip's."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, random_frames, read_image, write_png
from tests.blender_addon.masks import array


@pytest.fixture
def strip(project):
    return project.image_strip()


@pytest.fixture
def export(addon, project, strip, tmp_path):
    """Export the user's mask for the strip: (H, W) uint8 for each frame."""

    def run(**chosen) -> list[np.ndarray]:
        for name, value in chosen.items():
            setattr(project.scene.fatezero, f"own_mask{name}", value)
        before, images = project.snapshot(), [image.name for image in bpy.data.images]
        users = {mask.name: mask.users for mask in bpy.data.masks}
        source = addon.strips.describe(project.scene, strip)
        exporting = addon.own_masks.OwnMasks(source, project.scene.fatezero, tmp_path / "masks {z}")
        while not exporting.complete:
            exporting.render_next()
        assert {mask.name: mask.users for mask in bpy.data.masks} == users
        assert project.snapshot() == before and [image.name for image in bpy.data.images] == images
        assert [path.name for path in exporting.frames] == [f"{n:05}.png" for n in range(1, source.count + 1)]
        frames = [array(addon.png.read(path)) for path in exporting.frames]
        assert all(frame.shape == (HEIGHT, WIDTH, 1) for frame in frames)
        exporting.discard()
        assert not exporting.folder.exists()
        return [frame[..., 0] for frame in frames]

    return run


@pytest.fixture
def left_half():
    """A mask datablock: the left half of the picture."""
    mask = bpy.data.masks.new("half")
    mask.frame_start, mask.frame_end = 1, 3
    spline = mask.layers.new(name="layer").splines.new()
    spline.points.add(3)
    for point, place in zip(spline.points, ((-1, -1), (0.5, -1), (0.5, 2), (-1, 2))):
        point.co = place
        point.handle_left_type = point.handle_right_type = "VECTOR"
        point.handle_left = point.handle_right = place
    spline.use_cyclic = True
    yield mask
    bpy.data.masks.remove(mask)


def test_no_mask_is_wanted_at_first(project):
    project.prompts()
    assert project.scene.fatezero.as_edit().own_mask == ""


def test_a_mask_datablock(export, left_half):
    frames = export(_mode="REPLACE", _kind="MASK", **{"": left_half})
    assert len(frames) == FRAMES
    for frame in frames:
        assert (frame[:, : WIDTH // 2 - 1] == 255).all() and (frame[:, WIDTH // 2 + 1 :] == 0).all()


def test_inverted(export, left_half):
    (frame, *_) = export(_mode="LIMIT", _kind="MASK", _invert=True, **{"": left_half})
    assert (frame[:, : WIDTH // 2 - 1] == 0).all() and (frame[:, WIDTH // 2 + 1 :] == 255).all()


def test_a_half_sure_mask_keeps_its_value(export, left_half):
    left_half.layers[0].alpha = 0.5
    (frame, *_) = export(_mode="ADD", _kind="MASK", **{"": left_half})
    assert abs(int(frame[5, 5]) - 128) <= 1


def test_a_strip(addon, project, export, tmp_path):
    """Bright where it is white, and nothing where it is clear or not there."""
    pixels = [np.zeros((HEIGHT, WIDTH, 4), np.uint8) for _ in range(2)]
    for number, picture in enumerate(pixels):
        picture[..., 3] = 255
        picture[: 8 * (number + 1), :, :3] = 255
        picture[-8:] = (255, 255, 255, 0)
        picture[-16:-8, :, :3] = 100
    folder = tmp_path / "own"
    folder.mkdir()
    for number, picture in enumerate(pixels):
        write_png(folder / f"{number}.png", picture)
    project.add_images(sorted(folder.iterdir()), "own", channel=4, start=12).mute = True
    frames = export(_mode="SUBTRACT", _kind="STRIP", _strip="own")
    assert [frame[0, 0] for frame in frames] == [0, 0, 255, 255, 0, 0]
    assert [int((frame[:, 0] == 255).sum()) for frame in frames] == [0, 0, 8, 16, 0, 0]
    assert (frames[2][-8:] == 0).all() and (frames[2][-16:-8] == 100).all()


def test_colours_count_by_their_brightness(addon, project, export):
    colours = random_frames(1, (WIDTH, HEIGHT), False, 7)[0]
    folder = project.folder / "media" / "colours"
    folder.mkdir()
    write_png(folder / "1.png", colours)
    project.add_images([folder / "1.png"], "colours", channel=3)
    frame = export(_mode="LIMIT", _kind="STRIP", _strip="colours")[0]
    expected = colours[..., :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(frame - expected).max() <= 1


def test_what_is_in_the_way_is_said(addon, project, strip, tmp_path, left_half):
    source, settings = addon.strips.describe(project.scene, strip), project.scene.fatezero

    def begin(**chosen):
        for name, value in chosen.items():
            setattr(settings, f"own_mask{name}", value)
        return addon.own_masks.OwnMasks(source, settings, tmp_path / "masks")

    Trouble = addon.trouble.Trouble
    with pytest.raises(Trouble, match="No mask is chosen"):
        begin(_mode="REPLACE", _kind="MASK")
    with pytest.raises(Trouble, match="'gone' is no longer there"):
        begin(_kind="STRIP", _strip="gone")
    with pytest.raises(Trouble, match="cannot be its own mask"):
        begin(_strip="clip")
    exporting = begin(_kind="MASK", **{"": left_half})
    exporting.render_next()
    addon.export.clear()  # as a save does; the next frame makes another
    assert len(bpy.data.scenes) == len(bpy.data.masks) == 1
    exporting.render_next()
    assert addon.png.read(exporting.frames[0]) == addon.png.read(exporting.frames[1])
    left_half.name = "renamed"
    addon.export.clear()
    with pytest.raises(Trouble, match="'half' is no longer there"):
        exporting.render_next()
    exporting.discard()
    assert read_image(next(addon.strips.media(strip))).shape == (HEIGHT, WIDTH, 4)
    assert len(bpy.data.scenes) == 1
