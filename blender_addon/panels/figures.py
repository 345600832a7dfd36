"""Times and sizes as people say them."""

from __future__ import annotations

from bpy.app.translations import pgettext_iface as iface_

from ..estimates import Estimate


def cost(frames: int, of: int, estimate: Estimate) -> str:
    """What an edit will take, in a line: '8 of 240 frames, about 3 min, 12 MB'."""
    if frames == of == 1:
        parts = [iface_("1 frame")]
    elif frames == of:
        parts = [iface_("{frames} frames").format(frames=frames)]
    else:
        parts = [iface_("{frames} of {count} frames").format(frames=frames, count=of)]
    if estimate.seconds is not None:
        parts.append(iface_("about {time}").format(time=duration(estimate.seconds)))
    parts.append(size(estimate.size))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time, rounded as its length lets it be."""
    if seconds < 90:
        return iface_("{number} s").format(number=max(1, round(seconds)))
    if seconds < 90 * 60:
        return iface_("{number} min").format(number=round(seconds / 60))
    return iface_("{number} h").format(number=round(seconds / 3600, 1))


def size(count: float) -> str:
    """Bytes on disk."""
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{max(1, round(count))} {unit}"
    return f"{count / 1000:.1f} GB"
