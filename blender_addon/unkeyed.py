"""What the user has changed of animated values and not keyed yet: after any render Blender sets them by their curves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy

from . import compat


@contextlib.contextmanager
def kept(scene: bpy.types.Scene) -> Iterator[None]:
    """Have the scene's own animated values, such as those of its strips, afterwards as they are now."""
    before = [(*found, _value(*found)) for curve in compat.fcurves(scene) if (found := _found(scene, curve))]
    try:
        yield
    finally:
        for owner, name, index, value in before:
            if _value(owner, name, index) != value:
                _set(owner, name, index, value)


def _found(scene: bpy.types.Scene, curve: bpy.types.FCurve) -> tuple | None:
    """What the curve moves: its owner, its name there, and its index where it is one of several numbers; None where that
    is a custom property, which Blender shows nowhere in a picture, or is gone."""
    path, _, name = curve.data_path.rpartition(".")
    try:
        owner = scene.path_resolve(path) if path else scene
        of_many = owner.bl_rna.properties[name].is_array
    except (ValueError, KeyError, AttributeError):
        return None
    return owner, name, curve.array_index if of_many else None


def _value(owner, name: str, index: int | None):
    value = getattr(owner, name)
    return value if index is None else value[index]


def _set(owner, name: str, index: int | None, value) -> None:
    if index is None:
        setattr(owner, name, value)
    else:
        getattr(owner, name)[index] = value
