"""Edited frames become a strip over their source, and on it stands what made it."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import msgspec

from . import compat, extent, strips, undo
from .protocol import PROTOCOL_VERSION
from .protocol.settings import EditSettings
from .trouble import Trouble

TAG = "fatezero"
"""The strip's custom property that says how it was made."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """How a result was made: enough to make it again. `settings` is `EditSettings` as JSON."""

    job_id: str
    source: str
    target: str
    settings: str
    model: str
    engine: str
    protocol: int
    strip: str
    """Name of the strip that was edited."""
    source_digest: str
    """SHA-256 over the SHA-256 of each exported frame."""
    made_from: str = ""
    """The strip, and the part of it, that was edited: `strips.Source` as JSON."""
    fingerprint: str = ""
    """What `fingerprint.of` said of that when it was last known to be what `source_digest` says."""
    made: float = 0.0
    """When, in seconds since 1970; 0 where that was not noted down."""

    def as_properties(self) -> dict[str, str | int]:
        """As custom properties; FateZero draws no random numbers, so there is no seed to keep."""
        return {**msgspec.structs.asdict(self), "seed": "none"}


def origin_for(
    job_id: str, source: strips.Source, settings: EditSettings, engine: str, digest: str, fingerprint: str, made: float
) -> Origin:
    """What is noted of a result that `engine`, a version, has made of that source."""
    return Origin(
        job_id=job_id,
        source=settings.source,
        target=settings.target,
        settings=msgspec.json.encode(settings).decode(),
        model=settings.model,
        engine=engine,
        protocol=PROTOCOL_VERSION,
        strip=source.name,
        source_digest=digest,
        made_from=msgspec.json.encode(source).decode(),
        fingerprint=fingerprint,
        made=made,
    )


def insert(source: strips.Source, frames: list[Path], origin: Origin) -> str:
    """Put the frames over the strip that `source` describes, wherever that is now; the new strip's name.

    They cover what was exported, whole. Where the strip was cut meanwhile, the piece that has kept its name says where.
    `Trouble` where the strip is gone or no channel is free.
    """
    strip = strips.find(source)
    if strip is None:
        raise Trouble("'{name}' is no longer in this file.", name=source.name)
    first = source.first + round(compat.content_start(strip) - source.content_start)
    holder = strips.container(strip)
    channel = strips.free_channel(holder, strip.channel, first, first + source.count)
    was_active = strip.id_data.sequence_editor.active_strip
    result = compat.strips(holder).new_image(
        name=f"{strip.name} FateZero",
        filepath=bpy.path.relpath(str(frames[0])),
        channel=channel,
        frame_start=first,
        fit_method="FIT",
    )
    for index in range(1, source.count):
        result.elements.append(frames[index // source.step].name)
    transform = result.transform  # by what the project's size was then: a new one does not scale the source either
    transform.scale_x, transform.scale_y, transform.offset_x, transform.offset_y = extent.placement(source)
    result.blend_type = "ALPHA_OVER"
    result[TAG] = origin.as_properties()
    result.select = False  # whoever goes on working keeps the selection that they have
    strip.id_data.sequence_editor.active_strip = was_active
    undo.push_edited()
    return result.name


def origin_of(strip) -> Origin | None:
    """What made the strip, if FateZero did."""
    tag = strip.get(TAG)
    if tag is None:
        return None
    values = tag.to_dict()
    return Origin(**{name: values[name] for name in Origin.__struct_fields__ if name in values})


def settings_of(origin: Origin) -> dict:
    """The settings as plain values."""
    return json.loads(origin.settings)


def is_draft(origin: Origin) -> bool:
    """Whether it was made as a draft."""
    return settings_of(origin).get("full_steps", 0) > 0
