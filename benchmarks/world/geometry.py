"""Where everything is at a moment of the clip: object poses, camera, light directions.

``t`` runs from 0 to 1 over the clip. Metres and radians, z up, the floor is z = 0. Shared by the renderer and by
``compose``, so that both see the same world.
"""

from __future__ import annotations

import numpy as np

from .spec import Scene

LOOK_AT = (0.0, 0.0, 0.85)
HALF_VIEW = float(np.tan(np.radians(19.0)))  # tangent of half the (square) field of view
HIGH_SUN = np.radians(52.0)  # elevation of the sun of the day and of the moon
LOW_SUN = np.radians(20.0)  # elevation of the setting sun


def camera_position(scene: Scene, t: float) -> np.ndarray:
    """(3,) position of the camera; it always looks at ``LOOK_AT``."""
    camera = scene.camera
    azimuth, distance = camera.azimuth, camera.distance
    if camera.motion == "orbit":
        azimuth += camera.sense * np.radians(24.0) * (t - 0.5)
    elif camera.motion == "dolly":
        distance += camera.sense * 1.0 * (t - 0.5)
    return np.array([np.sin(azimuth) * distance, -np.cos(azimuth) * distance, camera.height])


def camera_rotation(scene: Scene, t: float) -> np.ndarray:
    """(3, 3) camera-to-world rotation, columns right, up, back (Blender's camera looks along -z)."""
    back = camera_position(scene, t) - np.array(LOOK_AT)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)


def object_pose(scene: Scene, index: int, t: float) -> tuple[np.ndarray, float]:
    """Location of the object's middle (3,) and its heading."""
    thing = scene.objects[index]
    azimuth = scene.camera.azimuth
    right = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    away = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    location = thing.place[0] * right + thing.place[1] * away + [0.0, 0.0, rest_height(thing.shape) * thing.size]
    heading = azimuth + thing.turn
    reach = 0.8 if len(scene.objects) == 1 else 0.35
    if thing.motion == "slide":
        location = location + right * thing.sense * reach * (2 * t - 1)
    elif thing.motion == "spin":
        heading += thing.sense * np.pi * t
    elif thing.motion == "bounce":
        location = location + [0.0, 0.0, 0.7 * abs(np.sin(2 * np.pi * t))]
    return location, heading


def rest_height(shape: str) -> float:
    """Height of a resting object's middle above the floor, for size 1."""
    return {"cube": 0.8, "sphere": 1.0, "cone": 0.95, "cylinder": 0.9, "torus": 1.0, "monkey": 0.95}[shape]


def light_direction(scene: Scene, elevation: float) -> np.ndarray:
    """(3,) unit vector from the scene to the light; it stands ``scene.sun`` beside the camera's first azimuth."""
    azimuth = scene.camera.azimuth + scene.sun
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth) * flat, -np.cos(azimuth) * flat, np.sin(elevation)])


def view_rays(rotation: np.ndarray, side: int, samples: int) -> np.ndarray:
    """World directions (side * samples, side * samples, 3), float32, through ``samples`` squared points of each pixel.

    They are not normalised: their length along the view axis is 1.
    """
    centres = ((np.arange(side * samples) + 0.5) / (side * samples) * 2 - 1) * HALF_VIEW
    x, y = np.meshgrid(centres.astype(np.float32), -centres.astype(np.float32))
    rotation = rotation.astype(np.float32)
    return x[..., None] * rotation[:, 0] + y[..., None] * rotation[:, 1] - rotation[:, 2]
