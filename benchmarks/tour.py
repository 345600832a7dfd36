"""A tour through the add-on in Blender's window, with a picture at each stop: ``build.py tour --blender PATH`` starts it.

It runs inside a Blender with a window. Nothing in it is drawn for the occasion: each stop does what a user does, waits
until the add-on is done, and has Blender take a picture of its own window.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy

ADDON = "bl_ext.user_default.fatezero_vse"
CLIP, OUT, WORK, ZIP = (Path(os.environ[f"FATEZERO_TOUR_{name}"]) for name in ("CLIP", "OUT", "WORK", "ZIP"))
SOURCE = "a shiny red sphere sliding on sand under a day sky"
TARGET = "a shiny green sphere sliding on sand under a day sky"
TICK = 0.25
"""Seconds between looks at whether a stop's work is done."""
SETTLE = 1.0
"""Seconds for the window to be drawn before its picture is taken."""
PATIENCE = 240.0
"""Seconds that a stop may take on a slow machine."""

Step = float | Callable[[], bool] | str
"""What a stop waits for: seconds, or until something is so; a text is the name of a picture to take."""


class Tour:
    """Runs the stops, one after the other, between Blender's own events."""

    def __init__(self, stops: Iterator[Step]):
        self._stops, self._until, self._patience = stops, None, 0.0

    def tick(self) -> float | None:
        """For `bpy.app.timers`: go on where that is possible."""
        try:
            if self._until is not None:
                if not self._until():
                    if time.monotonic() > self._patience:
                        raise TimeoutError("a stop took too long")
                    return TICK
                self._until = None
            match next(self._stops):
                case str() as name:
                    picture(name)
                    return TICK
                case float() | int() as seconds:
                    return float(seconds)
                case until:
                    self._until, self._patience = until, time.monotonic() + PATIENCE
                    return TICK
        except StopIteration:
            finish(0)
        except Exception:  # noqa: BLE001 - whatever it is, Blender must not stay open
            traceback.print_exc()
            picture("failed")
            finish(1)
        return None


def finish(code: int) -> None:
    """End the engine and Blender."""
    addon().jobs.session.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no question about unsaved changes


def addon():
    """The add-on's package, as Blender has loaded it."""
    return sys.modules[ADDON]


def picture(name: str) -> None:
    """What the screen shows, as a PNG file: Blender's own screenshots are black on a screen without a GPU."""
    path = OUT / f"{name}.png"
    subprocess.run(["import", "-window", "root", path], check=True)
    print(path, flush=True)


def sequencer(kind: str):
    """The area that shows the sequencer's timeline (`SEQUENCER`) or its picture (`PREVIEW`)."""
    window = bpy.context.window_manager.windows[0]
    return next(
        area for area in window.screen.areas if area.type == "SEQUENCE_EDITOR" and area.spaces[0].view_type == kind
    )


def region(area, kind: str):
    """One of the area's regions."""
    return next(part for part in area.regions if part.type == kind)


def over(area, kind: str = "WINDOW"):
    """A context as if the mouse were over that region."""
    window = bpy.context.window_manager.windows[0]
    return bpy.context.temp_override(window=window, screen=window.screen, area=area, region=region(area, kind))


def move_to(area, kind: str = "WINDOW") -> tuple[int, int]:
    """Put the mouse over the middle of a region."""
    window, part = bpy.context.window_manager.windows[0], region(area, kind)
    x, y = part.x + part.width // 2, part.y + part.height // 2
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    return x, y


def press(area, key: str, kind: str = "WINDOW", **modifiers) -> None:
    """Press a key with the mouse over the middle of a region."""
    x, y = move_to(area, kind)
    for value in ("PRESS", "RELEASE"):
        bpy.context.window_manager.windows[0].event_simulate(key, value, x=x, y=y, **modifiers)


def show_tab() -> Iterator[Step]:
    """Turn the sidebar's pages until ours is open."""
    area = sequencer("SEQUENCER")
    area.spaces[0].show_region_ui = True
    yield SETTLE
    for _ in range(12):
        if region(area, "UI").active_panel_category == "FateZero":
            return
        press(area, "TAB", "UI", ctrl=True)
        yield SETTLE
    raise LookupError("the sidebar has no page called FateZero")


def lay_out() -> Iterator[Step]:
    """Blender's own workspace for video, the sidebar open, and nothing in it that shows this computer's folders."""
    bpy.ops.wm.read_homefile(app_template="Video_Editing")
    yield SETTLE
    window = bpy.context.window_manager.windows[0]
    for area in window.screen.areas:
        if area.type == "FILE_BROWSER":
            area.type = "OUTLINER"
    if hasattr(window.workspace, "sequencer_scene"):
        window.workspace.sequencer_scene = window.scene


def open_project() -> None:
    """A project with the clip in it."""
    scene = bpy.context.window_manager.windows[0].scene
    clip = shutil.copytree(CLIP, WORK / "clip")
    frames = sorted(clip.glob("*.png"))
    scene.render.resolution_x = scene.render.resolution_y = 128
    scene.render.resolution_percentage = 100
    scene.render.fps, scene.frame_start, scene.frame_end = 8, 1, len(frames)
    editor = scene.sequence_editor_create()
    strip = addon().compat.strips(editor).new_image("clip", str(frames[0]), channel=1, frame_start=1)
    for frame in frames[1:]:
        strip.elements.append(frame.name)
    strip.select, editor.active_strip = True, strip
    scene.fatezero.source, scene.fatezero.target = SOURCE, TARGET
    bpy.ops.wm.save_as_mainfile(filepath=str(WORK / "tour.blend"))


def done(job) -> Callable[[], bool]:
    """Whether a job has ended."""
    return lambda: job.state in ("done", "failed", "unplaced", "unfetched", "cancelled")


def only(*labels: str) -> Iterator[Step]:
    """Have these panels of ours in the sidebar, open, and no others: it is not long enough for all."""
    classes = addon().panels.CLASSES
    for cls in reversed(classes):
        if cls.is_registered:
            bpy.utils.unregister_class(cls)
    for cls in classes:
        if issubclass(cls, bpy.types.Panel):
            cls.bl_options = set()
            if cls.bl_label not in labels:
                continue
        bpy.utils.register_class(cls)
    yield from show_tab()


def preferences() -> Iterator[Step]:
    """Where the engine is installed and chosen."""
    bpy.ops.screen.userpref_show("INVOKE_DEFAULT")
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "FateZero"
    yield SETTLE
    bpy.ops.preferences.addon_expand(module=ADDON)
    for area in bpy.context.window_manager.windows[-1].screen.areas:
        area.tag_redraw()
    yield 2 * SETTLE
    yield "preferences"
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[-1]):
        bpy.ops.wm.window_close()
    yield SETTLE


def undo_and_redo(name: str) -> Iterator[Step]:
    """The strip that the timer made goes and comes by the user's own keys."""

    def there() -> bool:
        return name in bpy.context.window_manager.windows[0].scene.sequence_editor.strips_all

    assert there()
    press(sequencer("SEQUENCER"), "Z", ctrl=True)
    yield lambda: not there()
    press(sequencer("SEQUENCER"), "Z", ctrl=True, shift=True)
    yield there


def jump(job) -> Iterator[Step]:
    """The timeline goes to the strip by the list's button, and comes back."""
    area = sequencer("SEQUENCER")
    view = region(area, "WINDOW").view2d
    left = view.region_to_view(0, 0)[0]
    bpy.ops.fatezero.jump_to_strip(job=job.id)
    yield lambda: view.region_to_view(0, 0)[0] != left
    with over(area):
        bpy.ops.sequencer.view_all()
    yield SETTLE


def stops() -> Iterator[Step]:
    """The tour."""
    bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo="user_default", enable_on_install=True)
    yield from lay_out()
    open_project()
    scene, session = bpy.context.window_manager.windows[0].scene, addon().jobs.session
    view = bpy.context.window_manager.fatezero_view
    yield from preferences()
    yield from only("Edit by Words", "Engine")
    with over(sequencer("SEQUENCER")):
        bpy.ops.sequencer.view_all()
    with over(sequencer("PREVIEW")):
        bpy.ops.sequencer.view_all_preview()
    yield SETTLE
    yield "prompts"

    yield from only("Edit by Words", "Masks")
    with over(sequencer("SEQUENCER")):
        bpy.ops.fatezero.show_masks("INVOKE_DEFAULT")
    yield done(session.job)
    yield lambda: len(view.words) > 0
    scene.frame_current = 4
    view.words["sphere"].shown = view.words["sky"].shown = True
    yield 2 * SETTLE
    yield "masks"
    view.style = "HARD"
    yield SETTLE
    yield "masks-hard"
    view.style, view.masks = "SOFT", False

    scene.fatezero.steps = 50  # long enough to be looked at
    yield from only("Edit by Words", "Edits")
    with over(sequencer("SEQUENCER")):
        bpy.ops.fatezero.edit_strip("INVOKE_DEFAULT")
    yield lambda: (session.job.preview and session.job.preview.step > 9) or session.job.final
    yield SETTLE / 4
    yield "editing"
    edited = session.job
    yield done(edited)
    scene.fatezero.steps = 20
    yield SETTLE
    yield "edited"
    yield from undo_and_redo(edited.result)
    yield from jump(edited)
    scene = bpy.context.window_manager.windows[0].scene

    bpy.ops.fatezero.select_result(job=edited.id)
    yield from only("Compare", "Made by FateZero")
    view.compare = "WIPE"
    yield 3 * SETTLE
    yield "compare"
    view.compare = "SIDE"
    yield 3 * SETTLE
    yield "side-by-side"
    view.compare = "OFF"

    scene.fatezero.target = TARGET.replace("green", "yellow")
    with over(sequencer("SEQUENCER")):
        bpy.ops.fatezero.render_again("INVOKE_DEFAULT", use_panel=True)
    yield done(session.job)
    yield from only("Made by FateZero", "Versions")
    yield "rendered-again"

    package = addon()
    package.operators.again.select_only(scene, package.strips.named(scene, "clip"))
    scene.fatezero.target = TARGET
    yield from only("Edit by Words", "Settings")
    scene.fatezero.cross_end, scene.fatezero.keep_background = 0.5, True
    yield SETTLE
    yield "settings"
    bpy.ops.fatezero.reset_to_preset()
    move_to(sequencer("PREVIEW"))  # where the dialog opens

    for colour in ("blue", "cyan", "purple"):
        scene.fatezero_work.targets.add().text = TARGET.replace("green", colour)
    yield from only("Batch")
    with over(sequencer("SEQUENCER")):
        bpy.ops.fatezero.batch("INVOKE_DEFAULT", what="VARIATIONS")
    yield 2 * SETTLE
    yield "batch-plan"
    press(sequencer("PREVIEW"), "RET")
    yield lambda: len(session.jobs) > 4
    yield from only("Edits", "Batch")
    yield 2 * SETTLE
    yield "batch"
    yield lambda: all(job.final for job in session.jobs)
    yield SETTLE
    yield "batch-done"


bpy.app.timers.register(Tour(stops()).tick, first_interval=2.0, persistent=True)
