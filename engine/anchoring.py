"""Which anchors a clip has: one, or several where it is cut or where the settings ask for more (section 3.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil

from protocol.settings import EditSettings

from .clips import Clip
from .fatezero.frames import TemporalSettings
from .fatezero.keys import several_anchors
from .keyframes import keyframes
from .shots import find_cuts

_MOST_LISTED = 8
_NAMES = {"first": "first", "mid": "middle", "last": "last"}


def anchored(
    temporal: TemporalSettings, settings: EditSettings, clip: Clip, told: Callable[[int], None]
) -> tuple[TemporalSettings, list[str]]:
    """How the frames of a whole clip that the model edits see each other, and what the user is told of it, a sentence each.

    Where frames meet in one fixed frame, that becomes one of each shot, or several of it; a clip without a cut is left as
    it is, unless the settings ask for several. `told` as in `find_cuts`.
    """
    if temporal.needs_whole_clip or len(temporal.keys) > 1:
        asked = settings.anchor_every and temporal.needs_whole_clip
        return temporal, [_NOT_HERE] if asked else []
    cuts = find_cuts(clip, told) if settings.anchor_cuts else []
    edited = keyframes(clip.shape[0], settings.keyframe_step)
    shots = sorted({bisect_left(edited, cut) for cut in cuts})
    every = ceil(settings.anchor_every / settings.keyframe_step)
    served = several_anchors(temporal.keys[0], len(edited), shots, every)
    if len({one.before for one in served}) > 1:
        temporal = replace(temporal, served=served)
    return temporal, [_note(settings, cuts)] if cuts else []


_NOT_HERE = "This checkpoint computes all frames of a clip together, so it was edited without several anchors."


def _note(settings: EditSettings, cuts: Sequence[int]) -> str:
    if len(cuts) == 1:
        where = f"a cut at frame {cuts[0] + 1}"
    else:
        listed = ", ".join(str(cut + 1) for cut in cuts[:_MOST_LISTED])
        where = f"{len(cuts)} cuts, at frames {listed}{' and so on' if len(cuts) > _MOST_LISTED else ''}"
    if settings.anchor_every:
        return f"The strip has {where}: each shot has anchors of its own."
    return f"The strip has {where}: each shot keeps to its own {_NAMES[settings.keys[0]]} frame."
