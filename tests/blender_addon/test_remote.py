"""An engine on another computer, over a cable that can be cut: here a process of its own behind a proxy."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import threading
import time

import bpy
import msgspec
import pytest

from tests.blender_addon.conftest import MODULE, reach, stop_engine, tick_until, transfers_told, wait_until

LONG = 12
"""Frames: more than the engine makes together; large ones, so that it takes a while to write them."""


class Cable:
    """Passes bytes between a port of its own and another one, until it is cut; at `rate` bytes a second, all together,
    where that is set."""

    def __init__(self, port: int):
        self._target, self.rate, self._turn = port, None, threading.Lock()
        self._sockets: list[socket.socket] = []
        self.passed = 0
        """Bytes that have gone to the engine."""
        self.allowance = math.inf
        """Bytes that may, for a line that is slow."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._serve()

    def cut(self) -> None:
        """End all connections, and take no new ones."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._serve()

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, target, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=[source, target, counted], daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if rate := self.rate:
                    with self._turn:
                        time.sleep(len(data) / rate)
                while counted and self.passed + len(data) > self.allowance:
                    time.sleep(0.01)
                self.passed += len(data) if counted else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def session(addon):
    return addon.jobs.session


@pytest.fixture
def preferences(addon, project, session):
    """The add-on's, with no local engine running; afterwards the engine is the local one again."""
    stop_engine(addon)
    found = bpy.context.preferences.addons[MODULE].preferences
    yield found
    stop_engine(addon)
    found.engine, found.remote_address, found.remote_key = "LOCAL", "", ""


@pytest.fixture
def serve(engine_python, tmp_path):
    """Start an engine that listens to clients with the keys given; its port and its key."""
    home, processes = tmp_path / "remote", []

    def run(*arguments: str) -> str:
        command = [engine_python, "-m", "engine", *arguments, "--home", home]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def start(*clients: str) -> tuple[int, str]:
        for number, key in enumerate(clients):
            run("keys", "add", f"client-{number}", key)
        command = [engine_python, "-m", "engine", "serve", "--home", home, "--listen", "127.0.0.1:0"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        port = int(processes[-1].stdout.readline().rstrip(".\n").rpartition(":")[2])
        return port, run("keys").splitlines()[0].rpartition(" ")[2]

    start.home = home
    yield start
    for process in processes:
        process.terminate()
        process.communicate()


@pytest.fixture
def remote(addon, preferences, serve, checkpoint, project):
    """An engine behind a cable, chosen in the preferences; it knows the tiny checkpoint by name."""
    name = getattr(addon, "protocol.models").register(serve.home, checkpoint)
    port, key = serve(addon.chosen.own_key())
    cable = Cable(port)
    preferences.remote_address, preferences.remote_key = f"127.0.0.1:{cable.port}", key
    preferences.engine = "REMOTE"
    project.prompts(model="NAMED", model_name=name, steps=1)
    project.select(project.image_strip(count=2))
    project.save()
    cable.model = name
    yield cable
    cable.cut()


def test_an_edit_there(addon, project, session, remote):
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    job = session.job
    assert project.strips[job.result].elements[0].filename == "00001.png"
    assert session.client.link.process is None
    assert addon.model_choice.names() == ["builtin", remote.model]


def test_what_is_tuned_there_from_the_built_in_model_takes_its_presets(
    addon, project, session, remote, serve, tmp_path
):
    models, settings = addon.protocol.models, project.scene.fatezero
    for name, profile in (("test-far-small", {"base": "builtin"}), ("test-far-other", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / models.PROFILE_FILE).write_text(json.dumps(profile))
        models.add(serve.home, models.Model(str(tmp_path / name)), name)
    session.start_engine()
    tick_until(session, lambda: session.engine == "ready")
    assert session.welcome.from_builtin == ["test-far-small"]
    project.prompts("a red ball", "a red cube", preset="shape", model="BUILTIN")
    small = msgspec.to_builtins(settings.as_edit())
    for name, same in (("test-far-small", True), ("test-far-other", False), ("test-far-small", True)):
        project.prompts("a red ball", "a red cube", model="NAMED", model_name=name)
        assert (msgspec.to_builtins(settings.as_edit()) | {"model": "builtin"} == small) is same


def test_a_slow_line_carries_frames_while_others_are_exported(addon, project, session, remote, monkeypatch):
    """One as slow as the export, on which all would take twice as long if one came after the other."""
    monkeypatch.setattr(addon.session, "TICK_BUDGET", 0.0)
    project.scene.render.resolution_x = project.scene.render.resolution_y = 256
    project.select(project.image_strip(name="noise", count=8, size=(256, 256), channel=3))
    project.save()
    assert bpy.ops.fatezero.start_engine() == {"FINISHED"}
    tick_until(session, lambda: session.engine == "ready")
    before = remote.allowance = remote.passed
    job = addon.operators.edit.begin(bpy.context)
    sizes = []
    while len(sizes) < 7:
        session.tick()
        assert (job.state, job.step) == ("exporting", len(sizes) + 1)
        sizes.append(job._export.frames[-1].stat().st_size)
        remote.allowance += sizes[-1]
        wait_until(lambda: remote.allowance - remote.passed < 16384)
    frames = job._export.frames
    session.tick()
    assert job.state == "sending"
    total = sum(path.stat().st_size for path in frames)
    assert min(sizes) > 100_000, "noise, which no file makes small"
    assert remote.passed - before > 0.8 * total, "only the last frame is to come when the export is over"
    remote.allowance = math.inf
    reach(session, "done")
    assert job.trouble is None and remote.passed - before < 1.3 * total, "and nothing went twice"


@pytest.fixture
def half_made(addon, project, session, remote, serve):
    """An edit of which some frames are made, and fetched, and others are not: its worker stands still until the `with` ends."""

    @contextlib.contextmanager
    def half_made():
        project.scene.render.resolution_x = project.scene.render.resolution_y = 512
        project.select(project.image_strip(name="long", count=LONG, channel=3, size=(512, 512)))
        project.save()
        job, early = addon.operators.edit.begin(bpy.context), session.client._early
        tick_until(session, lambda: early._jobs.get(job.id) or job.final)
        log = map(json.loads, (serve.home / "logs" / "engine.log").read_text().splitlines())
        worker = [line["worker"] for line in log if line["event"] == "worker started"][-1]
        os.kill(worker, signal.SIGSTOP)
        try:
            tick_until(session, lambda: early._jobs[job.id].fetched and not early.waiting)
            assert job.state == "running" and 0 < early._jobs[job.id].fetched < LONG
            yield job, early.folder_of(job.id)
        finally:
            os.kill(worker, signal.SIGCONT)

    return half_made


def test_frames_come_while_later_ones_are_made(addon, project, session, half_made):
    with half_made() as (job, ahead):
        here = len(list(ahead.iterdir()))
        assert here and project.result_files() == [], "what is not whole is not shown"
        told = transfers_told(job, addon.events.Fetching)
    reach(session, "done")
    assert told[0][0] == 1 and told[here - 1][0] == here, "the first ones were here"
    assert (job.trouble, len(project.strips[job.result].elements)) == (None, LONG)
    assert not ahead.exists()


def test_frames_that_came_of_one_that_is_cancelled_go(addon, project, session, half_made):
    with half_made() as (job, ahead):
        session.cancel(job)
        tick_until(session, lambda: not ahead.exists())
    tick_until(session, lambda: session.job.state == "cancelled" and not session.job.record())
    assert project.result_files() == [] and not ahead.parent.exists()


def test_a_cable_that_is_cut_for_a_while(addon, project, session, remote):
    project.prompts(steps=40)
    job = addon.operators.edit.begin(bpy.context)
    reach(session, "running")
    remote.cut()
    tick_until(session, lambda: session.engine == "lost")
    assert addon.panels.queue.progress_text(job, session) == "Connection lost, trying again"
    tick_until(session, lambda: session.client._tries.count >= 3)
    remote.mend()
    tick_until(session, lambda: session.engine == "ready")
    reach(session, "done")
    assert job.trouble is None and len(project.strips) == 2


def test_a_cable_that_is_cut_while_blender_is_closed(addon, project, session, remote):
    """The job is known by its engine's address, and found again with it only."""
    project.prompts(steps=900)
    job = addon.operators.edit.begin(bpy.context)
    reach(session, "running")
    bpy.context.preferences.addons[MODULE].preferences.engine = "LOCAL"
    assert (session.engine, session.busy) == ("off", False)
    assert "which is not chosen now" in addon.panels.queue.progress_text(job, session)
    session.close()
    session.tick()
    assert [(found.id, found.state) for found in session.jobs] == [(job.id, "queued")]
    assert session.engine == "off"
    bpy.context.preferences.addons[MODULE].preferences.engine = "REMOTE"
    reach(session, "running")
    session.cancel(session.job)
    tick_until(session, lambda: session.job.state == "cancelled" and not session.job.record())


class TestASlowCable:
    """Over which a transfer takes longer than anybody waits."""

    @pytest.fixture
    def begin(self, addon, project, remote):
        """Begin an edit of a new strip of two noisy frames."""
        project.scene.render.resolution_x = project.scene.render.resolution_y = 1024

        def begin(name: str, steps: int):
            channel = len(project.strips) + 1
            project.select(project.image_strip(name, count=2, channel=channel, size=(1024, 1024), seed=channel))
            project.prompts(steps=steps)
            project.save()
            return addon.operators.edit.begin(bpy.context)

        yield begin
        remote.rate = None

    def test_others_are_paused_and_cancelled_beside_an_upload(self, session, remote, begin):
        running = begin("running", 900)
        reach(session, "running")
        sent = begin("sent", 900)
        remote.rate = 32 * 1024  # three minutes for the frames, which hold six million bytes
        reach(session, "sending")
        time.sleep(1.0)  # until the line is full of chunks
        session.change(running, "pause")
        tick_until(session, lambda: running.state == "paused" or sent.state != "sending")
        session.cancel(running)
        tick_until(session, lambda: not running.record() or sent.state != "sending")
        assert (running.state, sent.state, sent.step) == ("cancelled", "sending", 0)
        session.cancel(sent)
        tick_until(session, lambda: not sent.record() or sent.step)
        assert (sent.state, sent.step) == ("cancelled", 0)

    def test_others_are_paused_beside_what_is_sent_ahead(self, addon, session, project, remote, begin):
        """While Blender writes further frames: here it stands still meanwhile."""
        running = begin("running", 900)
        reach(session, "running")
        ahead = addon.uploads.Ahead()
        remote.rate = 32 * 1024
        for path in sorted((project.folder / "media" / "running").iterdir()):
            copy = path.with_name(f"other {path.name}")
            copy.write_bytes(path.read_bytes()[::-1])  # three million bytes that the engine has not
            ahead.add(copy)
        session.client.send_ahead(ahead)
        time.sleep(1.0)  # until the line is full of chunks
        session.change(running, "pause")
        tick_until(session, lambda: running.state == "paused" or ahead.sent)
        session.cancel(running)
        tick_until(session, lambda: not running.record() or ahead.sent)
        assert (running.state, ahead.sent) == ("cancelled", 0)
        ahead.end()

    def test_others_are_cancelled_beside_a_download(self, session, remote, begin):
        fetched = begin("fetched", 1)
        tick_until(session, lambda: fetched.state == "queued" or fetched.state == "running")
        other = begin("other", 900)
        tick_until(session, lambda: other.state in ("queued", "running"))
        remote.rate = 16 * 1024
        tick_until(session, lambda: fetched.state == "fetching")
        time.sleep(1.0)  # until the first chunks are asked for
        session.cancel(other)
        tick_until(session, lambda: not other.record() or fetched.state != "fetching")
        assert (other.state, fetched.state) == ("cancelled", "fetching")
        remote.rate = None
        tick_until(session, lambda: fetched.final)
        assert (fetched.state, fetched.trouble) == ("done", None)

    def test_the_one_connection_serves_where_the_engine_takes_no_more(self, addon, project, session, remote, serve):
        session.start_engine()
        tick_until(session, lambda: session.engine == "ready")
        connection = getattr(addon, "protocol.connection").Connection
        with contextlib.ExitStack() as others:
            for _ in range(getattr(addon, "protocol.limits").MAX_CONNECTIONS - 1):
                others.enter_context(connection(addon.chosen.place().endpoint())).ping(60.0)
            assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
        assert session.job.trouble is None
        assert '"status": 500' in (serve.home / "logs" / "engine.log").read_text()


def test_a_folder_of_this_computer_is_no_model_there(project, session, remote, checkpoint):
    project.prompts(model="FOLDER", model_folder=str(checkpoint))
    with pytest.raises(RuntimeError, match="does not see this one's folders. Choose one of its models by name"):
        bpy.ops.fatezero.edit_strip()
    project.prompts(model="NAMED", model_name="")
    with pytest.raises(RuntimeError, match="No model is named"):
        bpy.ops.fatezero.edit_strip()
    assert bpy.ops.fatezero.start_engine() == {"FINISHED"}
    tick_until(session, lambda: session.engine == "ready")
    project.prompts(model_name="sd-1")
    with pytest.raises(RuntimeError, match="has no model 'sd-1'. Choose one of these: builtin, "):
        bpy.ops.fatezero.edit_strip()


class TestConnection:
    def told(self) -> str:
        with pytest.raises(RuntimeError) as error:
            bpy.ops.fatezero.test_connection()
        return str(error.value).removeprefix("Error: ")

    def test_one_that_works(self, addon, remote):
        assert bpy.ops.fatezero.test_connection() == {"FINISHED"}
        assert addon.trial.current.welcome.models == ["builtin", remote.model]

    def test_what_is_in_the_way_is_told_apart(self, addon, preferences, serve, monkeypatch):
        keys = getattr(addon, "protocol.keys")
        stranger = keys.shown(keys.KeyPair.make().public)
        port, key = serve(stranger)  # our own is not among them
        preferences.engine = "REMOTE"
        assert self.told().startswith("No engine's address is named.")
        preferences.remote_address, preferences.remote_key = f"127.0.0.1:{port}", key
        assert self.told().startswith("Not allowed: ")
        preferences.remote_key = stranger
        assert self.told().startswith("Wrong key: ")
        preferences.remote_key = "sesame"
        assert self.told().startswith("'sesame' is no key.")
        preferences.remote_key = key
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = free.getsockname()[1]
        preferences.remote_address = f"127.0.0.1:{nobody}"
        assert self.told().startswith("Unreachable: ")
        preferences.remote_address = "gpu.studio"
        assert not bpy.app.online_access
        assert self.told().startswith("Blender's online access is off")

    def test_one_of_another_version(self, addon, remote, monkeypatch):
        monkeypatch.setattr(getattr(addon, "protocol.connection"), "PROTOCOL_VERSION", 99)
        assert self.told().startswith("Other version: ")

    def test_a_refused_edit_says_the_same_at_once(self, addon, session, remote):
        remote.cut()
        with pytest.raises(RuntimeError, match="No engine answers at tcp://127.0.0.1"):
            bpy.ops.fatezero.edit_strip()
        assert (session.engine, session.job.state) == ("off", "failed")

    def test_the_own_key_is_private_and_stays(self, addon, preferences):
        key = addon.chosen.own_key()
        addon.chosen.own_key.cache_clear()
        assert addon.chosen.own_key() == key and len(key) == 64
        assert addon.folders.key_file().stat().st_mode & 0o077 == 0
        assert bpy.ops.fatezero.copy_key() == {"FINISHED"}
