"""The versions of a result: each rendering anew becomes one more on the same strip, and the earlier ones stay on disk.

Copies of a strip, and the pieces of one that was cut, carry the same list; each shows the version that it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import bpy
import msgspec

from . import compat, extent, reimport, strips, undo
from .reimport import Origin
from .strips import Source
from .trouble import Trouble

LIST = "fatezero_versions"
"""The strip's custom property that holds its versions, oldest first, as JSON."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One set of frames of a result, and what made it."""

    origin: Origin
    folder: str
    """Where its frames are, relative to the .blend as Blender writes that."""
    pictures: int
    """How many files there are: `00001.png` and so on."""
    absolute: str = ""
    """The same folder wherever the .blend is: *Save As* elsewhere takes along the strip's own path, and not these."""

    @property
    def source(self) -> Source | None:
        """What was edited; None where an early version of the add-on has not kept it."""
        return msgspec.json.decode(self.origin.made_from, type=Source) if self.origin.made_from else None

    @property
    def found(self) -> Path | None:
        """The folder as it is to be found now, or None: with the .blend first, as whole projects are moved, too."""
        folders = [Path(bpy.path.abspath(self.folder)), Path(self.absolute or self.folder)]
        return next((folder for folder in folders if (folder / self.files[0]).is_file()), None)

    @property
    def files(self) -> list[str]:
        """The name of each frame's file; one that is held appears several times."""
        source = self.source
        if source is None:
            return [f"{number:05}.png" for number in range(1, self.pictures + 1)]
        return [f"{index // source.step + 1:05}.png" for index in range(source.count)]


def of(strip) -> list[Version]:
    """The versions of a result, oldest first; at least the one that it shows."""
    origin = reimport.origin_of(strip)
    if origin is None:
        return []
    found = msgspec.json.decode(strip[LIST], type=list[Version]) if LIST in strip else []
    if all(version.origin.job_id != origin.job_id for version in found):
        folder = strip.directory
        absolute = bpy.path.abspath(folder)
        found.append(Version(origin=origin, folder=folder, pictures=len(strip.elements), absolute=absolute))
    return found


def _results() -> Iterator[bpy.types.Strip]:
    """All strips of this file that FateZero has made."""
    for scene in bpy.data.scenes:
        if scene.sequence_editor:
            yield from (strip for strip in compat.all_strips(scene.sequence_editor) if reimport.TAG in strip)


def strips_by_job() -> dict[str, str]:
    """For each job that has made a version of a strip of this file, the name of one such strip."""
    return {version.origin.job_id: strip.name for strip in _results() for version in of(strip)}


def showing(scene: bpy.types.Scene, job_id: str) -> list[bpy.types.Strip]:
    """The scene's strips that show what that job made, and are not locked: copies, and pieces of one that was cut."""
    if scene.sequence_editor is None or not job_id:
        return []
    found = []
    for strip in compat.all_strips(scene.sequence_editor):
        tag = strip.get(reimport.TAG)
        if tag is not None and tag.get("job_id") == job_id and not _locked(strip):
            found.append(strip)
    return found


def replace(scene: bpy.types.Scene, job_id: str, frames: list[Path], origin: Origin) -> str:
    """Have every strip that shows what the job `job_id` made show these frames, where and as it is.

    Returns the name of one of them, or nothing where none is left.
    """
    shown = showing(scene, job_id)
    folder, absolute = bpy.path.relpath(str(frames[0].parent)) + "/", str(frames[0].parent)
    version = Version(origin=origin, folder=folder, pictures=len(frames), absolute=absolute)
    for strip in shown:
        _write(strip, [*of(strip), version])
        _show(strip, version)
    if shown:
        undo.push_rendered_again()
    return shown[0].name if shown else ""


def confirm(scene: bpy.types.Scene, job_id: str, fingerprint: str) -> str:
    """Note down on every strip that shows what that job made that it is as its source is now; the name of one."""
    shown = showing(scene, job_id)
    for strip in shown:
        origin = msgspec.structs.replace(reimport.origin_of(strip), fingerprint=fingerprint)
        others = [version for version in of(strip) if version.origin.job_id != job_id]
        (now,) = [version for version in of(strip) if version.origin.job_id == job_id]
        now = msgspec.structs.replace(now, origin=origin)
        _write(strip, sorted([*others, now], key=lambda version: version.origin.made))
        strip[reimport.TAG] = origin.as_properties()
    return shown[0].name if shown else ""


def show(strip, job_id: str) -> None:
    """Have the strip show the version that the job `job_id` made; `Trouble` where its files are gone."""
    wanted = next((version for version in of(strip) if version.origin.job_id == job_id), None)
    if wanted is None:
        raise Trouble("'{name}' has no such version.", name=strip.name)
    folder = wanted.found
    if folder is None:
        raise Trouble(
            "The frames of this version are no longer in {folder}.", "Put them back, or re-render the strip.",
            folder=Path(bpy.path.abspath(wanted.folder)),
        )  # fmt: skip
    _write(strip, of(strip))
    _show(strip, msgspec.structs.replace(wanted, folder=bpy.path.relpath(str(folder)) + "/"))


def _show(strip, version: Version) -> None:
    """Swap the strip's frames. Where the user has put it, cut it and changed its look stays."""
    before = reimport.origin_of(strip)
    shown = next(each for each in of(strip) if each.origin.job_id == before.job_id)
    _swap_files(strip, version, _lead(version) - _lead(shown) if shown.source and version.source else 0)
    if shown.source and version.source:
        _cover(strip, shown.source, version.source)
    strip[reimport.TAG] = version.origin.as_properties()


def _swap_files(strip, version: Version, shift: int) -> None:
    """Put in the files; content that begins `shift` frames later does so on the timeline, behind the same handles.

    A handle that stood at an end of the content goes with it, any other stays.
    """
    files, start = version.files, compat.content_start(strip)
    left, right = compat.left_handle(strip), compat.right_handle(strip)
    same_times = shift == 0 and len(files) == len(strip.elements)
    opens, closes = left == round(start), right == round(start) + len(strip.elements)
    while len(strip.elements) > len(files):
        strip.elements.pop(len(strip.elements) - 1)
    while len(strip.elements) < len(files):
        strip.elements.append(files[len(strip.elements)])
    strip.directory = version.folder
    for element, name in zip(strip.elements, files, strict=True):
        element.filename = name
    if same_times:
        return
    compat.set_content_start(strip, start + shift)
    first = round(start) + shift
    compat.set_handles(strip, first if opens else left, first + len(files) if closes else right)


def _lead(version: Version) -> int:
    """Frames from where the source's content begins to where the edit does."""
    return round(version.source.first - version.source.content_start)


def _cover(strip, before: Source, after: Source) -> None:
    """Where the frames' size, or the part of the picture that they show, is another one: scale and move the strip."""
    old, new, transform = extent.placement(before), extent.placement(after), strip.transform
    if old == new:
        return
    transform.scale_x *= new[0] / old[0]
    transform.scale_y *= new[1] / old[1]
    transform.offset_x += new[2] - old[2]
    transform.offset_y += new[3] - old[3]


def _locked(strip) -> bool:
    return strip.lock or strips.container(strip).channels[strip.channel].lock


def _write(strip, versions: list[Version]) -> None:
    strip[LIST] = msgspec.json.encode(versions).decode()
