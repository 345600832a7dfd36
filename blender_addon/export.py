"""A strip as the user sees it, as PNG files: one frame rendered at a time, and the user's scenes left as they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import bpy

from . import compat, extent, strips, unkeyed
from .trouble import Trouble

COPY_NAME = "FateZero Export"
MARK = "fatezero_export"
"""Custom property of a scene, a mask or an action that is a copy of ours."""
PNG_END = b"IEND\xaeB`\x82"
"""What every whole PNG file ends with."""

RENDER_HANDLERS = (
    "render_init", "render_pre", "render_post", "render_write", "render_stats", "render_complete", "render_cancel",
)  # fmt: skip


class Export:
    """The frames of one strip on their way into `folder`, as `00001.png` and so on.

    They are rendered from a copy of the scene. It stays between frames, so that a movie is read on and not sought in
    anew; whenever something is about to keep the file's data (a save, an undo), `clear` takes it away and the next
    frame makes another.
    """

    def __init__(self, source: strips.Source, folder: Path):
        """`folder` is made; `Trouble` where it cannot be."""
        self.source, self.folder = source, folder
        self.frames: list[Path] = []
        self._digests: list[str] = []
        self._strip = ""
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(folder, error.strerror) from error

    @property
    def complete(self) -> bool:
        """Whether all frames are there."""
        return len(self.frames) == self.source.pictures

    @property
    def digest(self) -> str:
        """SHA-256 over the SHA-256 of each frame that is there, in hex."""
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()

    def render_next(self) -> None:
        """Render the next frame; `Trouble` where the strip is gone or changed, or the frame cannot be written."""
        strip = strips.find(self.source)
        if strip is None:
            raise Trouble(
                "'{name}' was deleted before all of it was exported.", "Undo that and edit it again.",
                name=self.source.name,
            )  # fmt: skip
        left, right = self.source.whole
        if compat.right_handle(strip) - compat.left_handle(strip) != right - left:
            raise Trouble("'{name}' was trimmed while it was exported.", "Edit it again.", name=strip.name)
        scene = kept(self.folder)
        if scene is None:
            scene = copy_scene(strip)
            extent.show_only(scene, strips.named(scene, strip.name), self.source)
            mark(scene, self.folder)
            self._strip = strip.name
        path = self.folder / f"{len(self.frames) + 1:05}.png"
        first = compat.left_handle(strips.named(scene, self._strip)) + self.source.trim[0]
        self._digests.append(render(scene, first + len(self.frames) * self.source.step, path))
        self.frames.append(path)
        if self.complete:
            clear()

    def discard(self) -> None:
        """Remove everything that was exported."""
        if not self.complete:  # else it has cleared up, and what there is is another export's
            clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def copy_scene(strip) -> bpy.types.Scene:
    """A copy of the strip's scene that shows nothing but the strip, with colours left alone, until `clear`."""
    scene = strip.id_data.copy()
    scene.name = COPY_NAME
    scene[MARK] = True
    _show_alone(scene, strip.name)
    exact_output(scene)
    return scene


def new_scene(size: tuple[int, int]) -> bpy.types.Scene:
    """A scene of ours with an empty sequencer, of `size` = (width, height), with colours left alone, until `clear`."""
    scene = bpy.data.scenes.new(COPY_NAME)
    scene[MARK] = True
    exact_output(scene)
    scene.render.resolution_x, scene.render.resolution_y = size
    scene.sequence_editor_create()
    return scene


def mark(scene: bpy.types.Scene, folder: Path) -> None:
    """Note down on a copy that it is for the frames in `folder`."""
    scene[MARK] = strips.as_text(str(folder))


def kept(folder: Path) -> bpy.types.Scene | None:
    """The copy that is for the frames in `folder`; None where it is cleared away. Its name would not tell: another export's
    may have it since."""
    noted = strips.as_text(str(folder))
    return next((scene for scene in bpy.data.scenes if scene.get(MARK) == noted), None)


def remove(scene: bpy.types.Scene) -> None:
    """Remove one copy."""
    action = scene.animation_data and scene.animation_data.action
    bpy.data.scenes.remove(scene)
    if action and MARK in action:
        bpy.data.actions.remove(action)


def clear() -> None:
    """Remove every copy, also one that an undo or an automatic save has brought back."""
    for scene in [scene for scene in bpy.data.scenes if MARK in scene]:
        bpy.data.scenes.remove(scene)
    for kind in (bpy.data.masks, bpy.data.actions):
        for item in [item for item in kind if MARK in item]:
            kind.remove(item)


def render(scene: bpy.types.Scene, frame: int, path: Path) -> str:
    """Write what the scene shows at `frame` to the PNG file `path`; returns its SHA-256 in hex."""
    written = render_into(path.parent, scene, frame)
    try:
        data = written.read_bytes()
        if not data.endswith(PNG_END):
            raise cannot_write(path.parent, "a frame was cut off")
        os.replace(written, path)
        return hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise cannot_write(path.parent, error.strerror) from error


def render_into(folder: Path, scene: bpy.types.Scene, frame: int) -> Path:
    """Write what the scene shows at `frame` to a file in `folder`, whose path is returned."""
    scene.frame_start = scene.frame_end = frame
    scene.render.filepath = compat.output_path(folder / "frame_######")
    written = Path(bpy.path.abspath(scene.render.frame_path(frame=frame)))
    images = set(bpy.data.images)
    try:
        with _unheard(), unkeyed.kept(bpy.context.scene):
            bpy.ops.render.render(animation=True, scene=scene.name)
    except RuntimeError as error:
        raise cannot_write(folder, str(error).strip()) from error
    finally:
        for image in set(bpy.data.images) - images:  # the first render of a session makes 'Render Result'
            bpy.data.images.remove(image)
    return written


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Let nobody hear of our renders: whoever tells the user that a render has ended, or turns the computer off then,
    does not mean one of a single frame."""
    kept = {name: list(getattr(bpy.app.handlers, name)) for name in RENDER_HANDLERS}
    for name in kept:
        getattr(bpy.app.handlers, name).clear()
    try:
        yield
    finally:
        for name, handlers in kept.items():
            getattr(bpy.app.handlers, name)[:] = handlers


def _show_alone(scene: bpy.types.Scene, name: str) -> None:
    """Mute every strip but the named one; the metas around it show it as it is, whole. No animation changes that."""
    strip = strips.named(scene, name)
    set_here = [mute_path(strip)]
    first, end = compat.left_handle(strip), compat.right_handle(strip)
    strip.blend_type = "ALPHA_OVER"  # other modes mix with what is below, and there is nothing below
    inside, holder = strip, strips.container(strip)
    while True:
        for other in compat.strips(holder):
            other.mute = other != inside
            set_here.append(mute_path(other))
        holder.channels[inside.channel].mute = False
        if holder == scene.sequence_editor:
            break
        _make_plain(holder, first, end)
        set_here.append(f"{_path(holder)}.")
        inside, holder = holder, strips.container(holder)
    still(scene, set_here)


def mute_path(strip) -> str:
    """How an animation names what mutes the strip."""
    return f"{_path(strip)}.mute"


def _path(strip) -> str:
    """How an animation's path names the strip itself, and not a modifier of that name, whichever way that begins."""
    return f"_all{compat.animation_path(strip)}"


def still(scene: bpy.types.Scene, paths: Iterable[str]) -> None:
    """Have nothing animate what has these paths in the scene, a copy; `remove` or `clear` removes what that takes."""
    if any(_moves(curve, paths) for curve in compat.fcurves(scene)):
        compat.own_action(scene)[MARK] = True
    for curve in compat.movers(scene):
        if _moves(curve, paths):
            curve.mute = True


def _moves(curve: bpy.types.FCurve, paths: Iterable[str]) -> bool:
    return any(path in curve.data_path for path in paths)


def _make_plain(meta, first: int, end: int) -> None:
    """Let the meta pass on what is in it: its own look comes on top of the result as it comes on top of the source."""
    meta.blend_type, meta.blend_alpha = "ALPHA_OVER", 1.0
    meta.use_flip_x = meta.use_flip_y = meta.use_reverse_frames = meta.use_deinterlace = False
    meta.color_multiply, meta.color_saturation, meta.strobe = 1.0, 1.0, 1.0
    for name in ("offset_x", "offset_y", "rotation"):
        setattr(meta.transform, name, 0.0)
    meta.transform.scale_x = meta.transform.scale_y = 1.0
    for name in ("min_x", "max_x", "min_y", "max_y"):
        setattr(meta.crop, name, 0)
    for modifier in meta.modifiers:
        modifier.mute = True
    compat.set_handles(meta, min(first, compat.left_handle(meta)), max(end, compat.right_handle(meta)))


def exact_output(scene: bpy.types.Scene) -> None:
    """What comes out is what goes in: 8-bit PNG with alpha, the whole frame, no view on the colours, nothing drawn in."""
    view = scene.view_settings
    plain_output(scene)
    compat.use_png(scene.render.image_settings)
    scene.display_settings.display_device = "sRGB"
    view.view_transform, view.look = "Standard", "None"
    view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False


def plain_output(scene: bpy.types.Scene) -> None:
    """Have the scene's renders show what the sequencer shows, whole, and nothing drawn in."""
    render = scene.render
    render.image_settings.color_management = "FOLLOW_SCENE"
    render.dither_intensity = 0.0
    render.use_sequencer, render.use_compositing = True, False
    render.resolution_percentage = 100
    render.use_border = render.use_multiview = render.use_stamp = False
    render.use_file_extension, render.use_overwrite, render.use_placeholder = True, True, False
    render.frame_map_old = render.frame_map_new = 100
    scene.frame_step = 1
    for name in render.bl_rna.properties.keys():
        if name.startswith("use_stamp_"):  # the time of the rendering would make equal frames different files
            setattr(render, name, False)


def cannot_write(folder: Path, reason: str) -> Trouble:
    """What is said where frames cannot be written."""
    return Trouble(
        "The frames cannot be written to {folder}: {reason}.",
        "Make room on that disk and edit the strip again.",
        folder=folder,
        reason=reason.rstrip("."),
    )


class OwnMasks(Protocol):
    """The user's own mask for each frame of a strip on its way into files, as an `Export` has the frames."""

    frames: list[Path]

    @property
    def complete(self) -> bool:
        """Whether all are there."""

    def render_next(self) -> None:
        """Write the next one; `Trouble` where that is impossible."""

    def discard(self) -> None:
        """Remove everything that was written."""
