"""Rectangles, pictures, masks and words on the screen. Only while Blender draws."""

from __future__ import annotations

import blf
import bpy
import gpu
from gpu_extras.batch import batch_for_shader

from . import shaders
from .geometry import Rect
from .settings import FATEZERO_PG_view

FONT = 0
WHITE, SHADE = (1.0, 1.0, 1.0, 0.9), (0.0, 0.0, 0.0, 0.55)


def mask(texture, place: Rect, visible: Rect, colour: tuple[float, float, float], view: FATEZERO_PG_view) -> None:
    """A mask over the part `visible` of a picture at `place`, as `view` says."""
    shader = shaders.mask()
    gpu.state.blend_set("ALPHA")
    shader.uniform_sampler("picture", texture)
    shader.uniform_float("colour", (*colour, view.opacity))
    shader.uniform_float("threshold", view.threshold)
    shader.uniform_float("hard", float(view.style == "HARD"))
    _quad(shader, visible, visible.texture(place))
    gpu.state.blend_set("NONE")


def picture(texture, place: Rect, visible: Rect) -> None:
    """The part `visible` of a picture that would fill `place`."""
    shader = shaders.picture()
    gpu.state.blend_set("ALPHA")
    shader.uniform_sampler("picture", texture)
    _quad(shader, visible, visible.texture(place))
    gpu.state.blend_set("NONE")


def fill(rect: Rect, colour: tuple[float, float, float, float]) -> None:
    """A rectangle of one colour."""
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    gpu.state.blend_set("ALPHA")
    shader.uniform_float("color", colour)
    _quad(shader, rect)
    gpu.state.blend_set("NONE")


def words(text: str, x: float, y: float, to_left: bool = False) -> None:
    """A few words on a dark plate whose upper left corner is at (`x`, `y`), or whose upper right one is."""
    scale = scaled(1.0)
    blf.size(FONT, 12 * scale)
    width, height = blf.dimensions(FONT, text)[0] + 14 * scale, 22 * scale
    left = x - width if to_left else x
    fill(Rect(left, y - height, width, height), SHADE)
    blf.position(FONT, left + 7 * scale, y - 15 * scale, 0)
    blf.color(FONT, *WHITE)
    blf.draw(FONT, text)


def scaled(size: float) -> float:
    """A size in pixels on a usual screen, on this one."""
    return size * bpy.context.preferences.system.ui_scale


def _quad(shader, rect: Rect, texture: tuple[float, float, float, float] | None = None) -> None:
    if not rect.width or not rect.height:
        return
    corners = {"pos": [(rect.x, rect.y), (rect.right, rect.y), (rect.x, rect.top), (rect.right, rect.top)]}
    if texture:
        left, bottom, right, top = texture
        corners["texture_at"] = [(left, bottom), (right, bottom), (left, top), (right, top)]
    batch_for_shader(shader, "TRI_STRIP", corners).draw(shader)
