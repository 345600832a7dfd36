"""Edits to be made, and results to be made anew: what of their sources has changed."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import bpy
import msgspec

from . import compat, extent, fingerprint, folders, jobs, own_masks, reimport, strips, versions
from .job import Job
from .protocol.settings import EditSettings
from .reimport import Origin
from .strips import Source
from .trouble import Trouble


@dataclass(frozen=True)
class Making:
    """An edit that is to be made, or a result that is to be made anew."""

    source: Source
    settings: EditSettings
    replaces: str = ""
    """The job that made what is shown now; nothing for a new result."""
    digest: str = ""
    """Of the frames that need no computing, or nothing."""
    why: str = "new"
    """`new`, `same`, `source`, `settings`, `unknown` (only its frames can tell) or `forced`."""

    def begin(self) -> Job:
        """Have it made, with the user's own mask where the settings use one; `Trouble` where that cannot begin."""
        masks = None
        if self.settings.own_mask:
            folder = folders.export_folder(f"{uuid.uuid4().hex}-masks")
            masks = own_masks.OwnMasks(self.source, bpy.data.scenes[self.source.scene].fatezero, folder)
        try:
            return jobs.session.edit(
                self.source, self.settings, masks, replaces=self.replaces, known_digest=self.digest
            )
        except Trouble:
            if masks:
                masks.discard()
            raise


def settings_of(origin: Origin) -> EditSettings:
    """The settings that a result was made with; `Trouble` where this version of the add-on does not know them."""
    try:
        return msgspec.json.decode(origin.settings, type=EditSettings)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Trouble("How '{name}' was edited cannot be read.", "Edit it again.", name=origin.strip) from error


def source_strip(result) -> bpy.types.Strip:
    """The strip that the result was made from, in the result's own scene; `Trouble` where it is no longer there."""
    scene, origin = result.id_data, reimport.origin_of(result)
    if made_from := _made_from(result):
        found = strips.find(made_from) or _lookalike(scene, made_from)
    else:
        found = strips.named(scene, origin.strip)
    if found is None or found == result:
        raise Trouble(
            "'{source}', which '{name}' was made from, is no longer here.", "Undo its deletion, or edit another strip.",
            source=origin.strip, name=result.name,
        )  # fmt: skip
    return found


def of(result, settings: EditSettings | None = None, force: bool = False) -> Making:
    """How to make the result anew from its source as that is now, with other `settings` or with its own.

    `Trouble` where that is impossible. Where `why` says `same` there is nothing to do.
    """
    scene, origin = result.id_data, reimport.origin_of(result)
    if origin is None:
        raise Trouble("'{name}' was not made by FateZero.", "Select a result, or edit this strip.", name=result.name)
    if result.lock or strips.container(result).channels[result.channel].lock:
        raise Trouble("'{name}' is locked.", "Unlock it (Strip, Lock) to have it made anew.", name=result.name)
    strip = source_strip(result)
    strips.check(scene, strip)
    before = _made_from(result)
    source = extent.again(scene, strip, before) if before else strips.describe(scene, strip)
    wanted = settings or settings_of(origin)
    why, digest = _why(scene, strip, source, origin, wanted), origin.source_digest
    if force:
        why, digest = "forced", ""
    elif why == "settings" or wanted.own_mask:
        why, digest = ("unknown" if why == "same" else why), ""  # nobody knows whether the mask is still the same
    elif before and _frames_differ(before, source):
        why, digest = "source", ""  # equal pictures held for another time are another result
    return Making(source, wanted, origin.job_id, digest, why)


def _why(scene: bpy.types.Scene, strip, source: Source, origin: Origin, wanted: EditSettings) -> str:
    if wanted != settings_of(origin):
        return "settings"
    now = fingerprint.of(scene, strip, source)
    if not now or not origin.fingerprint:
        return "unknown"
    return "same" if now == origin.fingerprint else "source"


def _frames_differ(before: Source, after: Source) -> bool:
    """Whether a result of `after` lies, or is timed, otherwise than one of `before`, whatever its frames show."""
    return (
        (before.count, before.step, before.box, before.size) != (after.count, after.step, after.box, after.size)
        or before.first - before.content_start != after.first - after.content_start
    )  # fmt: skip


def _made_from(result) -> Source | None:
    """What was edited, in the scene that the result is in: scenes are renamed, copied and appended."""
    version = next(v for v in versions.of(result) if v.origin.job_id == reimport.origin_of(result).job_id)
    source = version.source
    return source and replace(source, scene=result.id_data.name)


def _lookalike(scene: bpy.types.Scene, source: Source) -> bpy.types.Strip | None:
    """The only strip that shows the same files, renamed and moved as it may be."""
    found = [
        strip
        for strip in compat.all_strips(scene.sequence_editor)
        if strip.type == source.kind and source.media and strips.media_key(strip) == source.media
    ]
    return found[0] if len(found) == 1 else None
