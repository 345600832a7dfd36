"""What a batch will do, before it does it: which strips, why, and which not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import bpy

from . import again, chosen, compat, estimates, extent, jobs, reimport, strips
from .again import Making
from .estimates import Estimate
from .protocol.settings import EditSettings
from .trouble import Trouble


class Idle(Trouble):
    """Why there is nothing to do for a strip: no failure."""


@dataclass
class Plan:
    """What is to be made, and for each strip that is left out the reason."""

    todo: list[Making] = field(default_factory=list)
    skipped: list[tuple[str, Trouble]] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """Frames to be edited in all."""
        return sum(making.source.pictures for making in self.todo)

    def estimate(self) -> Estimate:
        """What it will take."""
        amounts = [estimates.amount_of(making.source, making.settings) for making in self.todo]
        return estimates.of(amounts, chosen.name())

    def skip(self, name: str, trouble: Trouble) -> None:
        """Leave a strip out."""
        self.skipped.append((name, trouble))


def strips_of(scene: bpy.types.Scene, scope: str, channel: int = 0) -> list[bpy.types.Strip]:
    """The strips that a batch is about, in order of time: `SELECTED`, those of a `CHANNEL`, all of the `SCENE`, or
    `ALL` of the file. Strips within metas only count where they are selected, or were made by FateZero."""
    scenes = [scene] if scope != "ALL" else list(bpy.data.scenes)
    found = []
    for each in scenes:
        editor = each.sequence_editor
        if editor is None or "fatezero_export" in each:
            continue
        outer = set(compat.strips(editor).keys())
        for strip in compat.all_strips(editor):
            if scope == "SELECTED":
                wanted = strip.select
            else:
                wanted = strip.name in outer or reimport.TAG in strip
                wanted &= scope != "CHANNEL" or strip.channel == channel
            if wanted:
                found.append(strip)
    return sorted(found, key=lambda strip: (strip.id_data.name, compat.left_handle(strip), strip.channel))


def edits(found: Iterable[bpy.types.Strip], stale_only: bool, targets: Iterable[str] = ("",)) -> Plan:
    """Edit the strips as their scenes' panels say, with each of `targets` (empty: the panel's own).

    Results of FateZero are only edited where they alone are asked for. With `stale_only`, what has been made with the
    same settings is made anew in place where its source has changed, and left alone where not.
    """
    plan, found = Plan(), list(found)
    results = _results(found)
    for strip in found:
        if reimport.TAG in strip and len(found) > 1:
            continue
        for target in targets:
            try:
                _plan_edit(plan, strip, target, results if stale_only else {})
            except Trouble as trouble:
                plan.skip(strip.name, trouble)
    return plan


def renders(found: Iterable[bpy.types.Strip], stale_only: bool = True, settings: EditSettings | None = None) -> Plan:
    """Make the results among the strips anew, each once, whatever it has been cut into."""
    plan, seen = Plan(), set()
    for strip in found:
        origin = reimport.origin_of(strip)
        if origin is None or (strip.id_data.name, origin.job_id) in seen:
            continue
        try:
            making = again.of(strip, settings, force=not stale_only)
            seen.add((strip.id_data.name, origin.job_id))
            _add(plan, strip.name, making)
        except Trouble as trouble:
            plan.skip(strip.name, trouble)
    return plan


def _plan_edit(plan: Plan, strip, target: str, results: dict) -> None:
    """Add the edit of one strip to the plan; `Trouble` where it is impossible."""
    scene = strip.id_data
    strips.check(scene, strip)
    settings = scene.fatezero.as_edit(target)
    source = extent.part(strips.describe(scene, strip), strip, scene)
    strips.check_size(source)
    for result in results.get((scene.name, strip.name), ()):
        if again.settings_of(reimport.origin_of(result)) == settings:
            making = again.of(result)
            if making.source == source:
                _add(plan, strip.name, making)
                return
    _add(plan, strip.name, Making(source, settings))


def _add(plan: Plan, name: str, making: Making) -> None:
    if making.why == "same":
        plan.skip(name, Idle("'{name}' is up to date.", name=name))
    elif any(
        job.under_way
        and not job.cancelling
        and (job.source.scene, job.source.name, job.settings)
        == (making.source.scene, making.source.name, making.settings)
        for job in jobs.session.jobs
    ):
        plan.skip(name, Idle("'{name}' is being edited just so.", name=name))
    else:
        plan.todo.append(making)


def _results(found: list[bpy.types.Strip]) -> dict[tuple[str, str], list[bpy.types.Strip]]:
    """The results in the strips' scenes by scene and name of their sources."""
    by_source: dict[tuple[str, str], list[bpy.types.Strip]] = {}
    for scene in {strip.id_data for strip in found}:
        for strip in compat.all_strips(scene.sequence_editor):
            tag = strip.get(reimport.TAG)
            if tag is not None:
                by_source.setdefault((scene.name, tag["strip"]), []).append(strip)
    return by_source
