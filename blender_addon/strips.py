"""Reading the sequencer: which strip is meant, whether it can be edited, and where it is now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy

from . import compat
from .protocol import limits
from .trouble import Trouble

PICTURELESS = {
    "SOUND": "'{name}' is a sound strip, which has no picture.",
    "TEXT": "'{name}' is a text strip, which has no picture to edit.",
    "ADJUSTMENT": "'{name}' is an adjustment strip, which has no picture of its own.",
    "MULTICAM": "'{name}' is a multicam strip, which only shows other strips.",
}
CHOOSE_ANOTHER = "Select a movie, image or scene strip instead."


@dataclass(frozen=True)
class Source:
    """A strip to be edited, by names and numbers: it may move, change or vanish while it is being worked on."""

    scene: str
    name: str
    kind: str
    media: str
    channel: int
    first: int
    """Frame at its left handle."""
    count: int
    """Frames between its handles."""
    content_start: float
    size: tuple[int, int]
    """The project's width and height in pixels."""
    fps: float
    trim: tuple[int, int] = (0, 0)
    """Frames of the strip before and after those that are edited."""
    step: int = 1
    """Of so many frames the first is edited, and shown for all of them."""
    percent: int = 100
    """Of the size in which the frames are worked on."""
    box: tuple[int, int, int, int] | None = None
    """Left, bottom, width and height of the part of the picture that the strip shows; None: all of it."""
    scene_uid: int = 0
    """Blender's own number of the scene, as long as the file is open."""

    @property
    def pictures(self) -> int:
        """How many frames are edited."""
        return -(-self.count // self.step)

    @property
    def whole(self) -> tuple[int, int]:
        """The strip's handles: its first frame, and the first one after it."""
        return self.first - self.trim[0], self.first + self.count + self.trim[1]

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels, as Blender rounds them."""
        width, height = self.box[2:] if self.box else self.size
        return width * self.percent // 100, height * self.percent // 100


def choose(context: bpy.types.Context, scene: str = "", strip: str = "") -> Source:
    """The strip that those names name, or else the selected one; `Trouble` where there is none or it cannot be edited."""
    found = bpy.data.scenes.get(scene) if scene else compat.sequencer_scene(context)
    if found is None:
        raise Trouble("There is no scene '{scene}'.", "Name one of this file's scenes.", scene=scene)
    if strip:
        chosen = named(found, strip)
        if chosen is None:
            raise Trouble("There is no strip '{strip}'.", "Select the strip to edit.", strip=strip)
    else:
        chosen = selected(found)
        if chosen is None:
            raise Trouble("No strip is selected.", "Select the strip to edit.")
    check(found, chosen)
    return describe(found, chosen)


def selected(scene: bpy.types.Scene) -> bpy.types.Strip | None:
    """The active strip if it is selected, else the only selected one."""
    editor = scene.sequence_editor
    if editor is None:
        return None
    if editor.active_strip and editor.active_strip.select:
        return editor.active_strip
    all_selected = [strip for strip in compat.all_strips(editor) if strip.select]
    return all_selected[0] if len(all_selected) == 1 else None


def named(scene: bpy.types.Scene, name: str) -> bpy.types.Strip | None:
    """The strip of that name, wherever in a meta it is; names are unique within a scene."""
    return compat.all_strips(scene.sequence_editor).get(name) if scene.sequence_editor else None


def describe(scene: bpy.types.Scene, strip) -> Source:
    """The strip as it is now."""
    render = scene.render
    left = compat.left_handle(strip)
    return Source(
        scene=scene.name,
        name=strip.name,
        kind=strip.type,
        media=media_key(strip),
        channel=strip.channel,
        first=left,
        count=compat.right_handle(strip) - left,
        content_start=compat.content_start(strip),
        size=(render.resolution_x, render.resolution_y),
        fps=render.fps / render.fps_base,
        scene_uid=scene.session_uid,
    )


def scene_of(source: Source) -> bpy.types.Scene | None:
    """The scene of the strip that `source` was taken from, renamed as it may be; None where it is gone."""
    scene = bpy.data.scenes.get(source.scene)
    if scene is not None:
        return scene
    for scene in bpy.data.scenes:
        if scene.session_uid == source.scene_uid and scene.sequence_editor:
            strip = named(scene, source.name)
            if strip is not None and media_key(strip) == source.media:  # the number may be another file's scene's
                return scene
    return None


def find(source: Source) -> bpy.types.Strip | None:
    """The strip that `source` was taken from, if it is still there, moved, renamed or cut as it may be.

    Of the pieces of one that was cut, the one with its name; else the first one that shows a part of what it showed.
    """
    scene = scene_of(source)
    if scene is None or scene.sequence_editor is None:
        return None
    strip = named(scene, source.name)
    if strip is not None and strip.type == source.kind:
        return strip
    pieces = [strip for strip in compat.all_strips(scene.sequence_editor) if _is_piece(strip, source)]
    return min(pieces, key=compat.left_handle, default=None)


def _is_piece(strip, source: Source) -> bool:
    """Whether the strip is where `source` was, whole or in part, and shows the same under another name."""
    return (
        strip.type == source.kind
        and strip.channel == source.channel
        and compat.content_start(strip) == source.content_start
        and source.whole[0] <= compat.left_handle(strip) < compat.right_handle(strip) <= source.whole[1]
        and media_key(strip) == source.media
    )


def check(scene: bpy.types.Scene, strip) -> None:
    """Raise `Trouble` where the strip has no picture that could be edited."""
    name = strip.name
    if not scene.is_editable:
        raise Trouble(
            "The scene '{scene}' belongs to another file, and a new strip in it would be gone when this one is opened again.",
            "Open {file} and edit it there.", scene=scene.name, file=Path(scene.library.filepath).name,
        )  # fmt: skip
    if strip.type in PICTURELESS:
        raise Trouble(PICTURELESS[strip.type], CHOOSE_ANOTHER, name=name)
    if is_empty(strip):
        raise Trouble("'{name}' is empty.", CHOOSE_ANOTHER, name=name)
    for path in media(strip):
        if not path.is_file():
            raise Trouble(
                "The file {path} of '{name}' is missing.",
                "Put it back, or point the strip to where it is now (Strip, Inputs, Change Path/Files).",
                path=path,
                name=name,
            )
    if strip.type in ("MOVIE", "IMAGE") and not strip.elements[0].orig_width:
        raise Trouble(
            "Blender cannot read the file {path} of '{name}'.",
            "Use another file, or Strip, Inputs, Reload Strips if it has been mended.",
            path=next(media(strip)),
            name=name,
        )
    first, last = compat.left_handle(strip), compat.right_handle(strip) - 1
    if first < 0 or last > bpy.types.Scene.bl_rna.properties["frame_end"].hard_max:
        raise Trouble(
            "'{name}' reaches from frame {first} to {last}, and Blender renders no such frames.",
            "Move it to frame 0 or later.",
            name=name,
            first=first,
            last=last,
        )


def check_size(source: Source) -> None:
    """Raise `Trouble` where the engine would not take so many frames, or frames of that size."""
    width, height = source.frame_size
    if max(width, height) > limits.MAX_FRAME_SIDE:
        raise Trouble(
            "The project is {width} x {height} pixels; the engine takes at most {side} on a side.",
            "Lower the resolution in the output properties.",
            width=width,
            height=height,
            side=limits.MAX_FRAME_SIDE,
        )
    if source.pictures > limits.MAX_FRAMES:
        raise Trouble(
            "The strip has {count} frames; the engine takes at most {most} at a time.",
            "Split the strip and edit a shorter part of it.",
            count=source.pictures,
            most=limits.MAX_FRAMES,
        )


def is_empty(strip) -> bool:
    """Whether there is nothing in the strip to look at."""
    if compat.right_handle(strip) <= compat.left_handle(strip):
        return True
    if strip.type == "META":
        return not compat.strips(strip)
    if strip.type == "IMAGE":
        return not strip.elements or not strip.elements[0].filename
    part = {"SCENE": "scene", "MOVIECLIP": "clip", "MASK": "mask"}.get(strip.type)
    return part is not None and getattr(strip, part, None) is None


def shows_through(strip) -> bool:
    """Whether what lies below the strip is seen through it, now or at times."""
    path = f"{compat.animation_path(strip)}.blend_alpha"
    return strip.blend_alpha < 1.0 or any(path in mover.data_path for mover in compat.movers(strip.id_data))


def media(strip) -> Iterator[Path]:
    """The files that the strip shows, in order: absolute paths."""
    library = strip.id_data.library
    if strip.type == "MOVIE":
        yield Path(bpy.path.abspath(strip.filepath, library=library))
    elif strip.type == "IMAGE":
        folder = bpy.path.abspath(strip.directory, library=library)
        for element in strip.elements:
            yield Path(os.path.join(folder, element.filename))
    elif strip.type == "META":
        for child in compat.strips(strip):
            if not child.mute:
                yield from media(child)


def media_key(strip) -> str:
    """The files that the strip shows, in few characters: what two strips have in common that show the same."""
    paths = [str(path) for path in media(strip)]
    if len(paths) < 2:
        return as_text("".join(paths))
    digest = hashlib.sha256("\n".join(paths).encode(errors="surrogateescape")).hexdigest()
    return f"{as_text(paths[0])} and {len(paths) - 1} more, {digest}"


def as_text(name: str) -> str:
    """A file's name as text that can be written down and sent: Linux has names that are none, whose bytes are spelt out."""
    return name.encode(errors="backslashreplace").decode()


def container(strip):
    """What the strip lies in: a meta strip or the sequence editor. Both have `channels` and strips."""
    return strip.parent_meta() or strip.id_data.sequence_editor


def free_channel(holder, above: int, first: int, end: int) -> int:
    """The lowest channel over `above` that is free from frame `first` to before `end`, not locked and not muted."""
    taken = {
        strip.channel
        for strip in compat.strips(holder)
        if compat.left_handle(strip) < end and compat.right_handle(strip) > first
    }
    for channel in range(above + 1, len(holder.channels)):
        if channel not in taken and not holder.channels[channel].lock and not holder.channels[channel].mute:
            return channel
    raise Trouble(
        "There is no free channel above channel {above}.",
        "Free a channel over the strip's whole length.",
        above=above,
    )
