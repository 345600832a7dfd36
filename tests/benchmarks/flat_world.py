"""Passes of a world of squares, made without Blender."""

import numpy as np

from benchmarks.world import geometry, spec

SIDE = 64


def flat_passes(scene: spec.Scene, light=(1.0, 1.0, 1.0)) -> dict[str, np.ndarray]:
    """Two frames as ``render`` would write them: lower half floor, upper half sky, a square of each object."""
    covers = np.zeros((2, len(scene.objects), SIDE, SIDE), np.uint8)
    for index in range(len(scene.objects)):
        covers[:, index, 24:40, 8 + 28 * index : 24 + 28 * index] = 255
    ground = np.zeros((2, SIDE, SIDE), np.uint8)
    ground[:, SIDE // 2 :] = 255
    camera = np.c_[geometry.camera_rotation(scene, 0), geometry.camera_position(scene, 0)]
    return {
        "light": np.full((2, SIDE, SIDE, 3), light, np.float16),
        "covers": covers,
        "ground": ground - np.minimum(ground, covers.max(1)),
        "motion": np.zeros((2, SIDE, SIDE, 2), np.float16),
        "normal": np.full((2, SIDE, SIDE, 3), 128, np.uint8),
        "camera": np.stack([camera, camera]),
    }
