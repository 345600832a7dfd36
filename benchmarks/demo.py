"""The demo: a rendered clip goes from strip to strip. Runs in Blender's Python; `build.py demo` starts it.

A ball is rendered twice by Blender itself: in the colour that it has, and in the one that it shall have. The first clip is
edited in the sequencer, through the add-on and the engine; the second is the right answer that the edit is judged by.
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# Before bpy is imported: the demo's Blender has settings and extensions of its own. An installed Blender has read this
# variable when it started, so there whoever starts it sets it, and removes the folder.
if "BLENDER_USER_RESOURCES" not in os.environ:
    os.environ["BLENDER_USER_RESOURCES"] = tempfile.mkdtemp(prefix="fatezero-demo-")
    atexit.register(shutil.rmtree, os.environ["BLENDER_USER_RESOURCES"], ignore_errors=True)
RESOURCES = Path(os.environ["BLENDER_USER_RESOURCES"])
os.environ["PYTHONPATH"] = str(ROOT)

import bpy
import numpy as np

from benchmarks.leaving import leave
from benchmarks.world.compose import compose, load_passes, object_mask
from benchmarks.world.render import render_passes
from benchmarks.world.spec import COLOURS, Camera, Scene, Thing, caption

ADDON = "bl_ext.user_default.fatezero_vse"
SIDE, RATE = 128, 8
BALL = Thing("sphere", "red", material="shiny", motion="slide", size=1.1)
SOURCE = Scene((BALL,), "sand", "day", Camera("orbit"))
TARGET = replace(SOURCE, objects=(replace(BALL, colour="green"),))
"""A green sphere is a pair that the built-in model never saw in training."""
MADE = {"demo.blend", "demo.blend1", "truth.npz", "source", "world", "fatezero", "masks", "report.json"} | {
    "side-by-side.mp4",
    "contact-sheet.png",
}


CONSOLE = sys.stdout
"""Where the demo speaks; Blender itself prints a line for each file that it renders."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Edit a rendered clip from strip to strip.")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "demo")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--model", default="builtin", help="'builtin', or a checkpoint's folder")
    options = parser.parse_args()
    send_blenders_words_elsewhere()
    try:
        Demo(options.out.resolve(), options.frames, options.steps, options.model).run()
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def send_blenders_words_elsewhere() -> None:
    """From here on standard output is a log file, and the console is kept for the demo's own words."""
    global CONSOLE
    CONSOLE = os.fdopen(os.dup(1), "w")
    log = os.open(RESOURCES / "blender.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.close(log)


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=CONSOLE, flush=True)


class DemoError(Exception):
    """Why the demo could not be run, and what would help."""


class Demo:
    """The demo's stages, each timed."""

    def __init__(self, out: Path, frames: int, steps: int, model: str):
        self.out, self.frames, self.steps, self.model = out, frames, steps, model
        self.timings: dict[str, float] = {}
        self._started = time.monotonic()

    def run(self) -> None:
        make_room(self.out)
        with self._stage("render the clip"):
            pictures = self.render()
        with self._stage("open the project"):
            self.enable_addon()
            strip = self.open_project(pictures)
        with self._stage("edit the strip"):
            job = self.edit(strip)
        with self._stage("save the project"):
            bpy.ops.wm.save_mainfile()
            shutil.move(job.folder / "masks", self.out / "masks")
        with self._stage("compare and report"):
            self.report(job)
        say(f"\nDone in {time.monotonic() - self._started:.0f} s. Look at:")
        for name in ("contact-sheet.png", "side-by-side.mp4", "demo.blend", "report.json"):
            say(f"  {self.out / name}")
        say(f"  {job.folder / 'frames'} (the edited frames)")

    def render(self) -> list[Path]:
        """The source clip as PNGs; the right answer and its mask are kept for the report."""
        path = render_passes(
            SOURCE, self.frames, SIDE, self.out / "world", lambda number: show(f"frame {number + 1} of {self.frames}")
        )
        passes = load_passes(path)
        source = compose(passes, SOURCE)
        others = {
            colour: compose(passes, replace(SOURCE, objects=(replace(BALL, colour=colour),)))
            for colour in COLOURS
            if colour != BALL.colour
        }
        right = TARGET.objects[0].colour
        np.savez_compressed(self.out / "truth.npz", source=source, right=right, mask=object_mask(passes, 0), **others)
        folder = self.out / "source"
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{number:05}.png" for number in range(1, len(source) + 1)]
        for png, frame in zip(paths, source):
            write_png(png, frame)
        return paths

    def enable_addon(self) -> None:
        """Install the add-on in this Blender as `build.py extension` would pack it."""
        folder = RESOURCES / "extensions" / "user_default" / "fatezero_vse"
        ignore = shutil.ignore_patterns("__pycache__")
        for source, into in ((ROOT / "blender_addon", folder), (ROOT / "protocol", folder / "protocol")):
            shutil.copytree(source, into, ignore=ignore, dirs_exist_ok=True)
        bpy.ops.wm.read_factory_settings(use_empty=True)
        import addon_utils  # Blender's own module, which only importing bpy puts on the path

        addon_utils.extensions_refresh()
        if not addon_utils.enable(ADDON, default_set=True):
            raise DemoError("The add-on could not be enabled; Blender's message above says why.")
        self.jobs, self.strips = (importlib.import_module(f"{ADDON}.{name}") for name in ("jobs", "strips"))

    def open_project(self, pictures: list[Path]):
        """A saved project with the clip as its only strip."""
        scene = bpy.context.scene
        scene.render.resolution_x = scene.render.resolution_y = SIDE
        scene.render.fps, scene.frame_start, scene.frame_end = RATE, 1, len(pictures)
        editor = scene.sequence_editor_create()
        collection = editor.strips if hasattr(editor, "strips") else editor.sequences
        strip = collection.new_image(name="clip", filepath=str(pictures[0]), channel=1, frame_start=1)
        for picture in pictures[1:]:
            strip.elements.append(picture.name)
        bpy.ops.wm.save_as_mainfile(filepath=str(self.out / "demo.blend"), check_existing=False)
        return strip

    def edit(self, strip):
        """What the panel's button does, with the timer's work done by hand and shown; the finished job."""
        scene = bpy.context.scene
        asked = scene.fatezero
        asked.source, asked.target, asked.steps = caption(SOURCE), caption(TARGET), self.steps
        if self.model != "builtin":
            asked.model, asked.model_folder = "FOLDER", self.model
        say(f"  from  {asked.source}\n  to    {asked.target}")
        settings = asked.as_edit(mask_words=(BALL.shape,))
        session = self.jobs.session
        job = session.edit(self.strips.choose(bpy.context, scene.name, strip.name), settings)
        while session.busy:
            if not session.tick():
                time.sleep(0.02)
            show(status(job, session))
        session.stop_engine()  # it would end by itself, but only after its home is removed
        while session.engine != "off":
            session.tick()
            time.sleep(0.02)
        session.close()
        if job.state != "done" or job.trouble:
            raise DemoError(f"The edit ended as {job.state}. {job.trouble or session.trouble or ''}")
        self.timings |= {f"engine: {stage}": seconds for stage, seconds in job.timings.items()}
        return job

    def report(self, job) -> None:
        """Pictures and figures, made by the engine's Python, which has the libraries for both."""
        record = {
            "prompts": {"source": job.settings.source, "target": job.settings.target},
            "frames": self.frames,
            "steps": self.steps,
            "model": self.model,
            "notes": job.notes,
            "seconds": self.timings,
            "versions": {"blender": bpy.app.version_string, "python": sys.version.split()[0]},
            "edited": str(job.folder / "frames"),
        }
        (self.out / "report.json").write_text(json.dumps(record, indent=2))
        python = os.environ["FATEZERO_ENGINE_PYTHON"]
        done = subprocess.run([python, "-m", "benchmarks.demo_report", self.out], cwd=ROOT, stdout=CONSOLE)
        if done.returncode:
            raise DemoError("The report could not be made; the message above says why.")

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        say(f"{name} ...")
        began = time.monotonic()
        yield
        self.timings[name] = round(time.monotonic() - began, 2)
        show("")
        say(f"  {self.timings[name]:.1f} s")


def status(job, session) -> str:
    """Where a job stands, in one short line."""
    left = f", {job.seconds_left:.0f} s left" if job.seconds_left else ""
    if session.engine == "starting" and job.state != "exporting":
        return "starting the engine"
    return f"{job.state} {job.stage} {job.step} of {job.steps}{left}"


_shown = ""


def show(line: str) -> None:
    """Progress: one line that is written over on a terminal, and a new line for each change elsewhere."""
    global _shown
    if line == _shown:
        return
    _shown = line
    if CONSOLE.isatty():
        say(f"\r  {line:70}", end="" if line else "\r")
    elif line:
        say(f"  {line}")


def make_room(out: Path) -> None:
    """An empty folder for the demo; another demo's files make way, anybody else's do not."""
    out.mkdir(parents=True, exist_ok=True)
    foreign = sorted(path.name for path in out.iterdir() if path.name not in MADE)
    if foreign:
        raise DemoError(f"{out} holds other files, such as {foreign[0]}; give an empty folder with --out.")
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_png(path: Path, frame: np.ndarray) -> None:
    """(H, W, 3) uint8 to a PNG. Blender's own way would put its colour management in between."""
    height, width, _ = frame.shape
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(frame))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


if __name__ == "__main__":
    try:
        code = main()
    except SystemExit as end:  # argparse's
        code = end.code
    leave(code, CONSOLE)
