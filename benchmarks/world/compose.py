"""Colours rendered passes as a scene says. Pure numpy.

Object and floor colours, materials and the sky are put on here, in linear light, so one rendering gives every
recolouring of its geometry, each exact: a source clip and its edited truth differ in nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import geometry
from .spec import Scene
from .styles import drawn

#: Linear reflectance of the object colours.
ALBEDO = {
    "red": (0.72, 0.02, 0.02),
    "orange": (0.90, 0.24, 0.01),
    "yellow": (0.88, 0.72, 0.02),
    "green": (0.03, 0.42, 0.05),
    "cyan": (0.02, 0.62, 0.68),
    "blue": (0.02, 0.06, 0.70),
    "purple": (0.34, 0.02, 0.50),
    "white": (0.90, 0.90, 0.90),
}
#: Light of the high sun, the sky around and the low sun, each linear RGB.
_LIGHTS = {
    "day": ((0.80, 0.77, 0.70), (0.42, 0.46, 0.55), (0.0, 0.0, 0.0)),
    "sunset": ((0.0, 0.0, 0.0), (0.38, 0.32, 0.42), (0.85, 0.55, 0.36)),
    "night": ((0.15, 0.19, 0.28), (0.09, 0.11, 0.18), (0.0, 0.0, 0.0)),
}
#: Linear RGB of the sky at the horizon and overhead.
_SKY = {
    "day": ((0.60, 0.76, 0.95), (0.10, 0.30, 0.80)),
    "sunset": ((0.98, 0.38, 0.08), (0.20, 0.08, 0.30)),
    "night": ((0.020, 0.030, 0.085), (0.003, 0.005, 0.020)),
}
_FLOOR_SAMPLES = 2  # squared per pixel
_HAZE = 60.0  # metres at which the floor has taken 63 % of the horizon's colour


def load_passes(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays that ``render.render_passes`` wrote: ``path`` is their file or its folder."""
    path = Path(path)
    with np.load(path / "passes.npz" if path.is_dir() else path) as file:
        return dict(file)


def object_mask(passes: dict[str, np.ndarray], index: int) -> np.ndarray:
    """(F, side, side) bool: where object ``index`` covers more than half of the pixel."""
    return passes["covers"][:, index] > 127


def compose(passes: dict[str, np.ndarray], scene: Scene) -> np.ndarray:
    """(F, side, side, 3) uint8 sRGB. ``scene`` may differ from the rendered one in colours, materials, floor, sky and style."""
    return np.stack([compose_frame(passes, scene, frame) for frame in range(len(passes["ground"]))])


def compose_frame(
    passes: dict[str, np.ndarray], scene: Scene, frame: int, ground: np.ndarray | None = None
) -> np.ndarray:
    """One frame of ``compose``, (side, side, 3) uint8; ``ground`` is ``floor_albedo``'s result if at hand."""
    camera = passes["camera"][frame].astype(np.float32)
    rays = geometry.view_rays(camera[:, :3], passes["ground"].shape[-1], 1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    light = passes["light"][frame].astype(np.float32) @ np.array(_LIGHTS[scene.sky], np.float32)
    covers = passes["covers"][frame].astype(np.float32)[..., None] / 255
    ground_share = passes["ground"][frame].astype(np.float32)[..., None] / 255
    sky = _sky(rays, scene.sky)
    if ground is None:
        ground = floor_albedo(passes, scene.floor, frame)
    picture = ground_share * _haze(ground * light, rays, camera[2, 3], scene.sky)
    for cover, thing in zip(covers, scene.objects, strict=True):
        albedo = np.array(ALBEDO[thing.colour], np.float32)
        if thing.material == "shiny":
            picture += cover * (0.8 * albedo * light + _gloss(passes["normal"][frame], rays, scene))
        else:
            picture += cover * albedo * light
    picture += np.clip(1 - ground_share - covers.sum(0), 0, 1) * sky
    return drawn(np.rint(_srgb(picture) * 255).astype(np.uint8), scene.style)


def floor_albedo(passes: dict[str, np.ndarray], floor: str, frame: int) -> np.ndarray:
    """(side, side, 3) float32 linear reflectance of the floor as the frame's camera sees it, smoothed over pixels."""
    camera, side = passes["camera"][frame].astype(np.float32), passes["ground"].shape[-1]
    rays = geometry.view_rays(camera[:, :3], side, _FLOOR_SAMPLES)
    down = np.minimum(rays[..., 2], -1e-3)
    along = -camera[2, 3] / down  # distance along the view axis, metres
    place = camera[:2, 3] + rays[..., :2] * along[..., None]
    # How many metres of floor a pixel spans, lengthwise: patterns finer than that fade to their mean.
    span = along**2 / camera[2, 3] * (2 * geometry.HALF_VIEW / side)
    albedo = _FLOORS[floor](place, span)
    albedo = albedo.reshape(side, _FLOOR_SAMPLES, side, _FLOOR_SAMPLES, 3)
    return sum(albedo[:, i, :, j] for i in range(_FLOOR_SAMPLES) for j in range(_FLOOR_SAMPLES)) / _FLOOR_SAMPLES**2


def _fade(span: np.ndarray, feature: float) -> np.ndarray:
    return np.clip(1.5 - 1.5 * span / feature, 0, 1)


def _blend(share: np.ndarray, low, high) -> np.ndarray:
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    return low + share[..., None].astype(np.float32) * (high - low)


def _checkered(place, span):
    odd = (np.floor(place / 1.2).astype(int).sum(-1) % 2) * 1.0
    return _blend(0.5 + (odd - 0.5) * _fade(span, 1.2), (0.06, 0.06, 0.065), (0.62, 0.62, 0.60))


def _wood(place, span):
    plank = np.floor(place[..., 0] / 0.7)
    tone = _hash(plank, np.floor(place[..., 1] / 4.0 + 0.37 * plank)) - 0.5
    joint = (np.abs(place[..., 0] / 0.7 - plank - 0.5) > 0.46) * _fade(span, 0.25)
    return (
        _blend(0.5 + 0.8 * tone * _fade(span, 0.7), (0.20, 0.085, 0.03), (0.42, 0.20, 0.08))
        * (1 - 0.6 * joint)[..., None]
    )


def _grass(place, span):
    tone = (_noise(place / 0.25) - 0.5) * _fade(span, 0.25) + (_noise(place / 1.1) - 0.5) * _fade(span, 1.1)
    return _blend(0.5 + 0.7 * tone, (0.030, 0.10, 0.012), (0.13, 0.25, 0.04))


def _snow(place, span):
    return _blend(0.5 + (_noise(place / 1.5) - 0.5) * _fade(span, 1.5), (0.72, 0.76, 0.83), (0.90, 0.92, 0.95))


def _sand(place, span):
    wave = np.sin(place[..., 0] * 5.0 + place[..., 1] * 1.5 + 3 * _noise(place / 1.5))
    return _blend(0.5 + 0.4 * wave * _fade(span, 0.6), (0.46, 0.33, 0.17), (0.68, 0.52, 0.30))


_FLOORS = {"checkered": _checkered, "wood": _wood, "grass": _grass, "snow": _snow, "sand": _sand}


def _hash(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each pair of whole numbers."""
    with np.errstate(over="ignore"):
        mixed = x.astype(np.int32).view(np.uint32) * np.uint32(374761393)
        mixed += y.astype(np.int32).view(np.uint32) * np.uint32(668265263)
        mixed = (mixed ^ (mixed >> 13)) * np.uint32(1274126177)
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65536)


def _noise(place: np.ndarray) -> np.ndarray:
    """Value noise in [0, 1] with one knot a unit."""
    knot = np.floor(place)
    part = place - knot
    u, v = np.moveaxis(part * part * (3 - 2 * part), -1, 0)
    x, y = np.moveaxis(knot, -1, 0)
    lower = _hash(x, y) * (1 - u) + _hash(x + 1, y) * u
    upper = _hash(x, y + 1) * (1 - u) + _hash(x + 1, y + 1) * u
    return lower * (1 - v) + upper * v


def _sky(rays: np.ndarray, sky: str) -> np.ndarray:
    horizon, zenith = _SKY[sky]
    return _blend(np.clip(rays[..., 2] / 0.45, 0, 1) ** 0.7, horizon, zenith).astype(np.float32)


def _haze(picture: np.ndarray, rays: np.ndarray, height: float, sky: str) -> np.ndarray:
    distance = height / np.maximum(-rays[..., 2:], 1e-3)
    kept = np.exp(-distance / _HAZE)
    return picture * kept + np.array(_SKY[sky][0]) * (1 - kept)


def _gloss(normal: np.ndarray, rays: np.ndarray, scene: Scene) -> np.ndarray:
    """Blinn-Phong highlight of the shining light plus a rim of sky, for every pixel that has a normal."""
    normal = (normal.astype(np.float32) - 128) / 127
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-3)
    elevation = geometry.LOW_SUN if scene.sky == "sunset" else geometry.HIGH_SUN
    half = geometry.light_direction(scene, elevation).astype(np.float32) - rays
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    highlight = np.clip((normal * half).sum(-1), 0, 1)[..., None] ** 45
    rim = (1 - np.clip(-(normal * rays).sum(-1), 0, 1))[..., None] ** 3
    colour = np.array(_LIGHTS[scene.sky]).sum(0)
    return (0.9 * highlight * colour + 0.3 * rim * np.array(_SKY[scene.sky][0])).astype(np.float32)


def _srgb(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
