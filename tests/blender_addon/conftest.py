"""The real Blender with the real extension: staged as an installed one, in a user folder of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Before bpy is imported: a folder with a space, a brace and a hash, as users have them.
RESOURCES = Path(tempfile.mkdtemp(prefix="fatezero tests {1} #"))
os.environ["BLENDER_USER_RESOURCES"] = str(RESOURCES)
MODULE = "bl_ext.user_default.fatezero_vse"


def stage(resources: Path) -> None:
    """Lay the extension out as it is installed, below a folder for Blender's user files."""
    extension = resources / "extensions" / "user_default" / "fatezero_vse"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "blender_addon", extension, ignore=ignored)
    shutil.copytree(ROOT / "protocol", extension / "protocol", ignore=ignored)


stage(RESOURCES)

import bpy
import numpy as np

# isort: split
import addon_utils  # a module of Blender's, there once bpy is

FRAMES, WIDTH, HEIGHT = 6, 64, 48
ENDED_AS = pytest.StashKey[int]()


def pytest_configure(config):
    # Blender says so when a script uses what the next major version drops.
    config.addinivalue_line("filterwarnings", "error::DeprecationWarning:bl_ext")
    addon_utils.extensions_refresh()
    assert addon_utils.enable(MODULE, default_set=True), f"{MODULE} cannot be enabled"
    os.environ["PYTHONPATH"] = str(ROOT)  # the engine that the add-on starts runs from the repository
    os.environ["OMP_NUM_THREADS"] = "1"  # for pictures so small, more threads only wait for each other


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[ENDED_AS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def shut_down() -> None:
    """Disable the extension, and remove its user folder."""
    addon_utils.disable(MODULE, default_set=True)
    wait_until(lambda: processes_with(str(RESOURCES)) == [])  # no process may be left, and none may write there
    shutil.rmtree(RESOURCES, ignore_errors=True)


def pytest_unconfigure(config):
    shut_down()
    # As a module, Blender 4.2 is never freed where a property had a callback, and crashes at its end.
    if bpy.app.version < (4, 3):
        sys.stdout.flush()
        os._exit(config.stash.get(ENDED_AS, pytest.ExitCode.INTERNAL_ERROR))


class Addon:
    """The add-on's modules as Blender has loaded them: `addon.jobs` and so on."""

    def __getattr__(self, name: str):
        return importlib.import_module(f"{MODULE}.{name}")


@pytest.fixture(scope="session")
def addon() -> Addon:
    return Addon()


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """The interpreter that has the engine's packages."""
    named = os.environ.get("FATEZERO_ENGINE_PYTHON")
    assert named, "FATEZERO_ENGINE_PYTHON must name the Python of the engine's environment (build.py test does so)"
    return Path(named)


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """A tiny random Stable Diffusion checkpoint for tiny pictures: real edits that mean nothing."""
    folder = RESOURCES / "checkpoint"
    shutil.copytree(ROOT / "tests" / "data" / "checkpoint", folder)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 8}))
    return folder


@pytest.fixture
def engine(addon, project, engine_python, checkpoint) -> None:
    """The project edits with the tiny checkpoint, three steps; the engine stays for the next test."""
    project.prompts(model="FOLDER", model_folder=str(checkpoint), steps=3)


@pytest.fixture
def no_engine(addon, project) -> None:
    """No engine runs when the test begins."""
    stop_engine(addon)
    yield
    stop_engine(addon)


def new_file() -> None:
    """An empty file, as File > New makes it."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


def reach(session, *states: str) -> None:
    """Carry the job on, as the timer does, until it is in one of these states."""
    job = session.job
    tick_until(session, lambda: job.state in states or not session.carries_on(job))
    assert job.state in states, (job.state, job.trouble, session.trouble)


def transfers_told(job, kind: type) -> list[tuple[int, int]]:
    """What the job hears from now on of one kind of transfer: files that are done, and how many there are."""
    told, handle = [], job.handle

    def look(event, client):
        if isinstance(event, kind):
            told.append((event.done, event.total))
        handle(event, client)

    job.handle = look
    return told


@contextlib.contextmanager
def in_a_window(addon):
    """As where the user presses a key, which undo needs; see `standing` for why no thread of ours may run meanwhile."""
    client, window = addon.jobs.session._client, bpy.context.window_manager.windows[0]
    if client:
        wait_until(client.standing.ask)
    try:
        with bpy.context.temp_override(window=window, screen=window.screen, area=window.screen.areas[0]):
            yield
    finally:
        if client:
            client.standing.go()


def tick_until(session, condition, patience: float = 300.0) -> None:
    """Do the timer's work until something is so; fail if that does not come."""
    wait_until(lambda: (session.tick(), condition())[1], patience)


def settle(addon) -> list[str]:
    """Have no jobs and no trouble any more; returns the states of those that had not ended."""
    session = addon.jobs.session
    left = [job.state for job in session.jobs if not job.final]
    for job in list(session.jobs):
        if job.under_way:
            session.cancel(job)
        tick_until(session, lambda job=job: not job.under_way)
        job.unsaved = False  # the file will not be saved any more
        session.dismiss(job)
    for job in session._over:
        job.unsaved = False
    if session.engine == "off":  # nobody can be told: the next engine has a new home's worth of jobs to forget
        session._over.clear()
        session.keep()
    tick_until(session, lambda: session._over == [])
    session.trouble = None
    return left


def add_modifier(strip, name: str, kind: str):
    """A new modifier: 5.0 and 5.1 crash where the workspace has no scene for the sequencer, as without a window."""
    for workspace in bpy.data.workspaces:
        if hasattr(workspace, "sequencer_scene"):
            workspace.sequencer_scene = strip.id_data
    return strip.modifiers.new(name, kind)


def stop_engine(addon) -> None:
    session = addon.jobs.session
    session.stop_engine()
    wait_until(lambda: session.tick() and session.engine == "off")


def wait_until(condition, patience: float = 300.0) -> None:
    """Wait for something that happens outside; fail if it does not."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path, addon: Addon) -> Project:
    """A saved project with nothing in it; afterwards nothing may be left behind."""
    new_file()
    made = Project(tmp_path / "project {x}")
    yield made
    assert settle(addon) == []  # no job is left over
    assert [scene.name for scene in bpy.data.scenes if "Export" in scene.name] == []
    assert list(addon.folders.exports_folder().iterdir()) == []
    assert list(addon.folders.records_folder().rglob("*.json")) == []
    assert [path for path in tmp_path.rglob("*.part")] == []


class Project:
    """A saved .blend in a folder of its own, and what the tests do with it."""

    def __init__(self, folder: Path, size: tuple[int, int] = (WIDTH, HEIGHT)):
        self.folder = folder
        self.folder.mkdir()
        self.path = folder / "project.blend"
        render = self.scene.render
        render.resolution_x, render.resolution_y = size
        render.fps = 24
        self.scene.sequence_editor_create()
        self.save()

    @property
    def scene(self):
        return bpy.data.scenes["Scene"]

    @property
    def editor(self):
        return self.scene.sequence_editor

    @property
    def strips(self):
        return self.editor.strips if hasattr(self.editor, "strips") else self.editor.sequences

    @property
    def all_strips(self):
        return self.editor.strips_all if hasattr(self.editor, "strips_all") else self.editor.sequences_all

    def save(self, path: Path | None = None) -> None:
        bpy.ops.wm.save_as_mainfile(filepath=str(path or self.path), check_existing=False)

    def image_strip(self, name="clip", count=FRAMES, channel=1, start=10, size=(WIDTH, HEIGHT), alpha=False, seed=1):
        """An image sequence of random pixels as a strip; its frames lie in `media/<name>`."""
        folder = self.folder / "media" / name
        folder.mkdir(parents=True)
        for number, pixels in enumerate(random_frames(count, size, alpha, seed), start=1):
            write_png(folder / f"{number:03}.png", pixels)
        return self.add_images(sorted(folder.iterdir()), name, channel, start)

    def add_images(self, paths, name="clip", channel=1, start=10, within=None):
        collection = self.strips if within is None else children(within)
        strip = collection.new_image(name=name, filepath=str(paths[0]), channel=channel, frame_start=start)
        for path in paths[1:]:
            strip.elements.append(path.name)
        return strip

    def select(self, strip) -> None:
        for other in self.all_strips:
            other.select = other == strip
        self.editor.active_strip = strip

    def effect(self, kind: str, name: str, channel: int, start: int, end: int, *inputs, within=None):
        collection = self.strips if within is None else children(within)
        length = {"length": end - start} if bpy.app.version >= (5, 0, 0) else {"frame_end": end}
        word = "input" if hasattr(self.editor, "strips") else "seq"
        inputs = {f"{word}{number}": strip for number, strip in enumerate(inputs, start=1)}
        return collection.new_effect(name=name, type=kind, channel=channel, frame_start=start, **length, **inputs)

    def prompts(self, source="a red ball", target="a blue ball", **settings) -> None:
        """Fill the panel."""
        for name, value in ({"source": source, "target": target} | settings).items():
            setattr(self.scene.fatezero, name, value)

    def snapshot(self) -> list[str]:
        """Everything that the file's scenes say, line by line, to compare."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # all properties are read, old ones too
            scenes = {scene.name: dump(scene) for scene in bpy.data.scenes}
        return json.dumps(scenes, indent=1, default=str).splitlines()

    def result_files(self) -> list[str]:
        """What lies in the results' folder, hidden things too."""
        folder = self.folder / "fatezero"
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def children(meta):
    return meta.strips if hasattr(meta, "strips") else meta.sequences


def processes_with(text: str) -> list[str]:
    """Command lines of running processes that hold `text`."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,stat=,command="], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if text in line and " Z" not in line[:20]]


def move(strip, frames: int) -> None:
    """Move the strip in time."""
    name = "content_start" if hasattr(strip, "content_start") else "frame_start"
    setattr(strip, name, getattr(strip, name) + frames)


def random_frames(count: int, size: tuple[int, int], alpha: bool, seed: int) -> list[np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size[1], size[0], 4), dtype=np.uint8)
    if alpha:
        pixels[..., 3] = np.where(pixels[..., 3] < 128, 0, 255)
        pixels[pixels[..., 3] == 0] = 0  # colours under nothing are nobody's
    else:
        pixels[..., 3] = 255
    return list(pixels)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 4) uint8 as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def read_image(path: Path) -> np.ndarray:
    """An image file's pixels as Blender reads them: (H, W, 4) uint8, top row first."""
    image = bpy.data.images.load(str(path))
    try:
        image.alpha_mode = "CHANNEL_PACKED"
        pixels = np.empty(len(image.pixels), dtype=np.float32)
        image.pixels.foreach_get(pixels)
        width, height = image.size
        return np.rint(pixels.reshape(height, width, 4)[::-1] * 255).astype(np.uint8)
    finally:
        bpy.data.images.remove(image)


OWNED = ("render", "image_settings", "view_settings", "display_settings", "sequencer_colorspace_settings", "fatezero")
OWNED += ("sequence_editor", "transform", "crop", "strips", "sequences", "elements", "channels", "modifiers")
"""What a scene's snapshot looks into; not the caches and engines that other parts of Blender hang on it."""


def dump(value) -> dict:
    """All properties of an RNA value and of what it owns."""
    found = {}
    for prop in value.bl_rna.properties:
        name = prop.identifier
        if prop.type == "POINTER":
            item = getattr(value, name) if name in OWNED else None
            found[name] = dump(item) if item else None
        elif prop.type == "COLLECTION":
            found[name] = [dump(item) for item in getattr(value, name)] if name in OWNED else None
        else:
            item = getattr(value, name)
            found[name] = list(item) if getattr(prop, "is_array", False) else item
    return found


def refused(**names) -> str:
    """What the user is told by an edit that cannot be made."""
    with pytest.raises(RuntimeError) as error:
        bpy.ops.fatezero.edit_strip(**names)
    return str(error.value).removeprefix("Error: ").strip()


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow over 100 bytes: for whoever writes, a disk that is full."""
    import resource  # not on Windows

    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
