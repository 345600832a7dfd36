"""Which anchors a clip has: one, or several where it is cut or where the settings ask for more (section 3.2)."""

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
_NAMES = {"first": "first", "mid": "middle", "last": "last", "-1": "previous", "1": "next"}


def anchored(
    temporal: TemporalSettings, settings: EditSettings, clip: Clip, told: Callable[[int], None]
) -> tuple[TemporalSettings, list[int], list[str]]:
    """How the frames of a whole clip that the model edits see each other; the clip's cuts (frames, ascending, with which a
    new shot begins), where they count; and what the user is told of it, a sentence each.

    Each shot has keys of its own: where frames meet in one fixed frame, one of each shot, or several of it. A clip without
    a cut is left as it is, unless the settings ask for several. `told` as in `find_cuts`.
    """
    cuts = find_cuts(clip, told) if settings.anchor_cuts else []
    edited = keyframes(clip.shape[0], settings.keyframe_step, cuts)
    shots = tuple(bisect_left(edited, cut) for cut in cuts)
    notes = [_note(temporal, settings, cuts)] if cuts else []
    if temporal.needs_whole_clip or len(temporal.keys) > 1:
        if settings.anchor_every and temporal.needs_whole_clip:
            notes.append(_NOT_HERE)
        return replace(temporal, cuts=shots), cuts, notes
    every = ceil(settings.anchor_every / settings.keyframe_step)
    served = several_anchors(temporal.keys[0], len(edited), shots, every)
    if len({one.before for one in served}) > 1:
        temporal = replace(temporal, served=served)
    return temporal, cuts, notes


_NOT_HERE = "This checkpoint computes all frames of a clip together, so it was edited without several anchors."


def _note(temporal: TemporalSettings, settings: EditSettings, cuts: Sequence[int]) -> str:
    if len(cuts) == 1:
        where = f"a cut at frame {cuts[0] + 1}"
    else:
        listed = ", ".join(str(cut + 1) for cut in cuts[:_MOST_LISTED])
        where = f"{len(cuts)} cuts, at frames {listed}{' and so on' if len(cuts) > _MOST_LISTED else ''}"
    if settings.anchor_every and not temporal.needs_whole_clip and len(temporal.keys) == 1:
        return f"The strip has {where}: each shot has anchors of its own."
    names = list(dict.fromkeys(_NAMES.get(key, "neighbouring") for key in temporal.keys))
    frames = f"{' and '.join(names)} {'frame' if len(names) == 1 and names != ['neighbouring'] else 'frames'}"
    return f"The strip has {where}: each shot keeps to its own {frames}."
