"""Whether a strip still shows what it showed: told from its files' dates and its settings, without rendering it."""

from __future__ import annotations

import hashlib
import json

import bpy

from . import compat, strips
from .strips import Source

TELLABLE = {
    "MOVIE", "IMAGE", "COLOR", "TEXT", "CROSS", "ADD", "SUBTRACT", "ALPHA_OVER", "ALPHA_UNDER", "GAMMA_CROSS",
    "MULTIPLY", "OVER_DROP", "WIPE", "GLOW", "TRANSFORM", "SPEED", "GAUSSIAN_BLUR", "COLORMIX", "META",
}  # fmt: skip
"""Types of strips that show nothing but their files and their own settings. What a scene, a clip, a mask or a strip
that looks at others shows may change anywhere in the file."""
PLACE = {
    "rna_type", "name", "select", "select_left_handle", "select_right_handle", "channel", "lock", "mute", "color_tag",
    "show_expanded", "show_retiming_keys", "is_active", "is_valid", "frame_start", "frame_final_start",
    "frame_final_end", "frame_final_duration", "content_start", "content_end", "left_handle", "right_handle",
    "use_proxy", "override_cache_settings", "use_cache_raw", "use_cache_preprocessed", "use_cache_composite",
    "enable", "start", "end", "alpha_mode_override", "show_waveform", "volume", "pan", "is_hidden",
}  # fmt: skip
"""Properties that say where a strip lies and how Blender shows it to the user, not what is in its picture."""
OWNED = {
    "transform", "crop", "modifiers", "elements", "retiming_keys", "colorspace_settings", "stereo_3d_format",
    "color_balance", "curve_mapping", "curves", "points",
}  # fmt: skip
"""What belongs to a strip, and is looked into."""


def of(scene: bpy.types.Scene, strip, source: Source) -> str:
    """A few characters that stay as they are while the part of the strip that `source` names shows the same; empty
    where that cannot be told.

    The same strip moved, or in another channel, has the same. Files count by path, size and time.
    """
    looks: list = []
    if not _tell(strip, strip, looks, compat.left_handle(strip)):
        return ""
    looks.append(_curves(scene, strip, compat.left_handle(strip)))
    view = scene.sequencer_colorspace_settings.name
    looks.append([source.size, source.trim, source.count, source.step, source.percent, source.box, source.fps, view])
    return hashlib.sha256(json.dumps(looks, default=str, sort_keys=True).encode()).hexdigest()


def now(source: Source) -> str:
    """The same for a part of a strip that is looked for by its name; empty where it is gone."""
    scene = strips.scene_of(source)
    strip = scene and strips.named(scene, source.name)
    return of(scene, strip, source) if strip else ""


def _tell(strip, top, looks: list, zero: float) -> bool:
    """Add to `looks` what the strip looks like, times counted from `zero`; False where that cannot be told."""
    uses_others = any(_uses_others(modifier) for modifier in strip.modifiers)
    if strip.type not in TELLABLE or uses_others or _driven(strip):
        return False
    looks.append(_still(strip))
    looks.append(compat.content_start(strip) - zero)
    if getattr(strip, "font", None):
        looks.append(strip.font.filepath)
    if strip != top:
        muted = strip.mute or strips.container(strip).channels[strip.channel].mute
        looks.append([compat.left_handle(strip) - zero, compat.right_handle(strip) - zero, strip.channel, muted])
        looks += _curves(strip.id_data, strip, zero)
    for path in () if strip.type == "META" else strips.media(strip):
        try:
            found = path.stat()
            looks.append([str(path), found.st_size, found.st_mtime_ns])
        except OSError:
            looks.append([str(path), "missing"])
    shown = (
        list(compat.strips(strip))
        if strip.type == "META"
        else [getattr(strip, name) for name in ("input_1", "input_2") if getattr(strip, name, None) is not None]
    )
    return all(_tell(other, top, looks, zero) for other in shown if other.type != "SOUND")


def _uses_others(modifier) -> bool:
    return modifier.type == "MASK" or modifier.input_mask_id is not None or modifier.input_mask_strip is not None


def _still(strip) -> dict:
    """The strip's plain properties, but for those that a curve moves: they are as the current frame has them."""
    found, path = _values(strip), compat.animation_path(strip)
    for curve in compat.fcurves(strip.id_data):
        if path not in curve.data_path or curve.mute:
            continue
        *owners, name = curve.data_path.partition(path)[2].lstrip(".").split(".")
        owner = found
        for each in owners:
            owner = owner.get(each) if isinstance(owner, dict) else None
        if isinstance(owner, dict):
            owner.pop(name, None)
    return found


def _values(item) -> dict:
    """The plain properties of an RNA value and of what it owns."""
    found = {}
    for name, kind in _names(type(item).bl_rna):
        value = getattr(item, name)
        if kind == "POINTER":
            found[name] = _values(value) if value else None
        elif kind == "COLLECTION":
            found[name] = [_values(part) for part in value]
        elif kind == "ARRAY":
            found[name] = [tuple(part) if hasattr(part, "__len__") else part for part in value]
        else:
            found[name] = sorted(value) if isinstance(value, set) else value
    return found


_known: dict[str, list[tuple[str, str]]] = {}


def _names(kind: bpy.types.Struct) -> list[tuple[str, str]]:
    """Names and kinds of the properties of a type that count, found out once."""
    if kind.identifier not in _known:
        _known[kind.identifier] = [
            (prop.identifier, "ARRAY" if getattr(prop, "is_array", False) else prop.type)
            for prop in kind.properties
            if prop.identifier not in PLACE
            and not getattr(prop, "is_deprecated", False)  # since 5.0, and they warn
            and (prop.type not in ("POINTER", "COLLECTION") or prop.identifier in OWNED)
        ]
    return _known[kind.identifier]


def _curves(scene: bpy.types.Scene, strip, zero: float) -> list:
    """What animates the strip, times counted from `zero`."""
    path = compat.animation_path(strip)
    return [
        [
            curve.data_path.partition(path)[2],
            curve.array_index,
            [_key(point, zero) for point in curve.keyframe_points],
            *_besides(curve),
        ]
        for curve in compat.fcurves(scene)
        if path in curve.data_path
    ]


def _besides(curve: bpy.types.FCurve) -> list:
    """What else than its keyframes makes a curve's values; nothing where it is as Blender makes it."""
    return [
        *(["muted"] if curve.mute else []),
        *([curve.extrapolation] if curve.extrapolation != "CONSTANT" else []),
        *(_values(modifier) for modifier in curve.modifiers),
    ]


def _key(point: bpy.types.Keyframe, zero: float) -> tuple:
    """A keyframe; with its handles only where these are not as Blender lays them by itself."""
    key = point.co[0] - zero, point.co[1], point.interpolation
    kinds = point.handle_left_type, point.handle_right_type
    if point.interpolation != "BEZIER" or kinds == ("AUTO_CLAMPED", "AUTO_CLAMPED"):
        return key
    return *key, *kinds, *((handle[0] - zero, handle[1]) for handle in (point.handle_left, point.handle_right))


def _driven(strip) -> bool:
    """Whether a driver or an action strip moves it, perhaps: what these go by may change anywhere in the file."""
    path, animation = compat.animation_path(strip), strip.id_data.animation_data
    return any(path in driver.data_path for driver in compat.drivers(strip.id_data)) or bool(
        animation and animation.nla_tracks
    )
