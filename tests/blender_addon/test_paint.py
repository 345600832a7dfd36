"""What the shaders draw, read back from the GPU: where Blender has one without a window (since 5.0, with a driver)."""

from __future__ import annotations

import gpu
import numpy as np
import pytest
from mathutils import Matrix

WIDTH, HEIGHT = 64, 32


@pytest.fixture
def canvas():
    """Draw something into a black picture of 64 x 32 pixels: (H, W, 4) uint8, the top row first."""
    if not hasattr(gpu, "init"):
        pytest.skip("this Blender draws nothing without a window")
    try:
        gpu.init()
        offscreen = gpu.types.GPUOffScreen(WIDTH, HEIGHT)
    except (SystemError, RuntimeError) as error:
        pytest.skip(f"no GPU: {error}")

    def run(draw) -> np.ndarray:
        with offscreen.bind(), gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
            framebuffer = gpu.state.active_framebuffer_get()
            framebuffer.clear(color=(0.0, 0.0, 0.0, 1.0))
            gpu.matrix.load_matrix(Matrix.Identity(4))
            pixels = ((2 / WIDTH, 0, 0, -1), (0, 2 / HEIGHT, 0, -1), (0, 0, 1, 0), (0, 0, 0, 1))
            gpu.matrix.load_projection_matrix(Matrix(pixels))
            draw()
            read = framebuffer.read_color(0, 0, WIDTH, HEIGHT, 4, 0, "UBYTE").to_list()
        return np.array(read, np.uint8).reshape(HEIGHT, WIDTH, 4)[::-1]

    yield run
    offscreen.free()


def test_pictures_keep_every_value(addon, canvas):
    values = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    values[0, :3] = ((0, 0, 0), (255, 255, 255), (127, 128, 255))
    picture = addon.png.Picture(WIDTH, HEIGHT, 3, values.tobytes())
    whole = addon.preview.geometry.Rect(0, 0, WIDTH, HEIGHT)
    shown = canvas(lambda: addon.preview.paint.picture(addon.preview.pictures.upload(picture), whole, whole))
    assert np.array_equal(shown[..., :3], values)


def test_masks_are_thresholded_and_coloured(addon, canvas):
    view, whole = addon.preview.settings.view(), addon.preview.geometry.Rect(0, 0, WIDTH, HEIGHT)
    mask = addon.png.Picture(2, 1, 1, bytes([255, 0]))
    left = whole.part(0.0, 0.5)

    def draw(**how):
        for name, value in how.items():
            setattr(view, name, value)
        texture = addon.preview.pictures.upload(mask)
        return canvas(lambda: addon.preview.paint.mask(texture, whole, whole, (1.0, 0.5, 0.0), view))[16]

    try:
        soft = draw(opacity=1.0, threshold=0.0, style="SOFT")
        assert tuple(soft[5][:3]) == (255, 128, 0) and not soft[60][:3].any() and 100 < soft[32][0] < 150
        assert (np.diff(soft[:, 0].astype(int)) <= 0).all()
        hard = draw(threshold=0.5, style="HARD")
        assert set(hard[:28, 0]) == {255} and set(hard[36:, 0]) == {0}
        assert abs(int(draw(opacity=0.5)[5][0]) - 128) <= 1
        texture = addon.preview.pictures.upload(mask)
        part = canvas(lambda: addon.preview.paint.mask(texture, whole, left, (1.0, 1.0, 1.0), view))[16]
        assert part[5, 0] and not part[32:, 0].any()
    finally:
        for name in ("opacity", "threshold", "style"):
            view.property_unset(name)
