"""The user's own mask for an edit: a mask datablock, or a strip whose brightness says where."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import bpy
from bpy.props import BoolProperty, EnumProperty, PointerProperty, StringProperty

from . import compat, export, png, renders, strips
from .trouble import Trouble

_INVERSE = bytes(range(255, -1, -1))
"""Every value's opposite."""


def _keep_outside(settings: OwnMaskSettings, _context) -> None:
    """Show that what is outside of an own mask is kept, or else what the preset keeps."""
    settings.keep_background = settings.preset_values()["keep_background"]


class OwnMaskSettings:
    """What the user sets about it: a part of the scene's settings for the next edit."""

    own_mask_mode: EnumProperty(
        name="Mode",
        description="What a mask of your own does to where the edit may change the picture",
        items=[
            ("NONE", "None", "The words alone say where"),
            ("REPLACE", "Replace", "The mask says where, and no word does"),
            ("LIMIT", "Limit", "Only where the words and the mask agree"),
            ("ADD", "Add", "Where the words or the mask say so"),
            ("SUBTRACT", "Subtract", "Where the words say so, but not in the mask"),
        ],
        update=_keep_outside,
        options=set(),
    )
    own_mask_kind: EnumProperty(
        name="Kind",
        description="What the mask is",
        items=[
            ("MASK", "Mask", "A mask that was drawn in Blender; its first frame goes with the strip's first frame"),
            ("STRIP", "Strip", "A strip: white is in the mask, black and what is outside of the strip is not"),
        ],
        options=set(),
    )
    own_mask: PointerProperty(name="Mask", description="The mask to use", type=bpy.types.Mask, options=set())
    own_mask_strip: StringProperty(name="Strip", description="The strip to use as a mask", options=set())
    own_mask_invert: BoolProperty(name="Invert", description="Swap what is in the mask and what is not", options=set())

    @property
    def own_mask_action(self) -> str:
        """What the user's own mask does, in the engine's words; empty: there is none."""
        return "" if self.own_mask_mode == "NONE" else self.own_mask_mode.lower()


class OwnMasks:
    """The user's mask for each frame of a strip on its way into `folder`, as `00001.png` and so on: 8-bit grey.

    To be carried on as an `export.Export` is: the files are as many, and of the same size. Strips and masks are
    held by name, and frames are rendered from copies, which `export.clear` may take away between two.
    """

    def __init__(self, source: strips.Source, settings: OwnMaskSettings, folder: Path):
        """`settings` say which mask; `Trouble` where there is none or the folder cannot be made."""
        self.source, self.folder = source, folder
        self.frames: list[Path] = []
        self._kind, self._invert = settings.own_mask_kind, settings.own_mask_invert
        if self._kind == "MASK":
            self._name = settings.own_mask.name if settings.own_mask else ""
        else:
            self._name = settings.own_mask_strip
        if not self._name:
            raise Trouble("No mask is chosen.", "Choose one under Own Mask, or set that to None.")
        if self._kind == "STRIP" and self._name == source.name:
            raise Trouble("'{name}' cannot be its own mask.", "Choose another strip under Own Mask.", name=self._name)
        self._find()
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise export.cannot_write(folder, error.strerror) from error

    @property
    def complete(self) -> bool:
        """Whether all frames are there."""
        return len(self.frames) == self.source.pictures

    def render_next(self) -> None:
        """Write the mask of the next frame; `Trouble` where the strip or the mask is gone, or the disk is full."""
        strip = strips.find(self.source)
        if strip is None:
            raise Trouble("'{name}' is no longer in this file.", name=self.source.name)
        shown = self._show_strip if self._kind == "STRIP" else self._show_mask
        first = compat.left_handle(strip) + self.source.trim[0]
        mask = self._part(shown(strip, first + len(self.frames) * self.source.step))
        if self._invert:
            mask = replace(mask, data=mask.data.translate(_INVERSE))
        path = self.folder / f"{len(self.frames) + 1:05}.png"
        try:
            path.write_bytes(png.encode(mask))
        except OSError as error:
            raise export.cannot_write(self.folder, error.strerror) from error
        self.frames.append(path)
        if self.complete:
            export.clear()

    def discard(self) -> None:
        """Remove everything that was written."""
        if not self.complete:
            export.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _part(self, mask: png.Picture) -> png.Picture:
        """Of the whole picture's mask what is worked on, in the frames' size."""
        if self.source.frame_size == (mask.width, mask.height):
            return mask
        left, bottom, width, height = self.source.box or (0, 0, mask.width, mask.height)
        return png.sampled(mask, (left, mask.height - bottom - height, width, height), self.source.frame_size)

    def _find(self):
        """The mask datablock or the strip."""
        scene = strips.scene_of(self.source)
        found = bpy.data.masks.get(self._name) if self._kind == "MASK" else scene and strips.named(scene, self._name)
        if not found:
            raise Trouble("The mask '{name}' is no longer there.", "Choose one under Own Mask.", name=self._name)
        return found

    def _show_strip(self, strip, frame: int) -> png.Picture:
        """The user's strip at that frame, over black: what is clear is not in the mask."""
        copy = export.copy_scene(self._find())
        try:
            first, end = compat.left_handle(strip), compat.right_handle(strip)
            editor = copy.sequence_editor
            black = compat.new_colour(editor, strips.free_channel(editor, 0, first, end), first, end)
            black.color, black.blend_type = (0.0, 0.0, 0.0), "ALPHA_UNDER"
            return renders.frame(copy, frame, "BW")
        finally:
            export.remove(copy)

    def _show_mask(self, strip, frame: int) -> png.Picture:
        """The user's mask at that frame, with its own first frame where the strip's content begins."""
        scene = export.kept(self.folder)
        if scene is None:
            scene = self._mask_scene(strip)
            export.mark(scene, self.folder)
        picture, last = renders.frame(scene, frame, "BW"), scene.render.resolution_x - 1
        # Blender leaves the upper right pixel of a mask strip as it finds it in memory.
        return replace(picture, data=picture.data[:last] + picture.data[last - 1 : last] + picture.data[last + 1 :])

    def _mask_scene(self, strip) -> bpy.types.Scene:
        """A scene of ours that shows the mask while the strip is shown.

        It has a copy of the mask: Blender does not count a strip that is made so as a user of its mask, but takes one
        off when it goes, and says that this is an error. So this scene stays until all frames are there.
        """
        render = strip.id_data.render
        scene, mask = export.new_scene((render.resolution_x, render.resolution_y)), self._find().copy()
        mask[export.MARK] = True
        start = round(compat.content_start(strip))
        shown = compat.strips(scene.sequence_editor).new_mask("mask", mask=mask, channel=1, frame_start=start)
        compat.set_handles(shown, compat.left_handle(strip), compat.right_handle(strip))
        return scene
