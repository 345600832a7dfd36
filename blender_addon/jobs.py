"""Jobs on Blender's side: from a strip over the engine to a strip, one small step at a time on the main thread."""

from __future__ import annotations

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import bpy
import msgspec

from . import client, documents, installer, preferences, reimport, strips
from .export import Export
from .protocol import PROTOCOL_VERSION
from .protocol.endpoint import process_runs
from .protocol.messages import Welcome
from .protocol.settings import EditSettings
from .trouble import Trouble

log = logging.getLogger(__name__)

TICK_BUDGET = 0.02
"""Seconds of Blender's time that a tick may take, beyond the one frame that it renders at least."""
BUSY, IDLE = 0.05, 0.5
"""Seconds between ticks while there is a job and while there is only an engine to watch."""


class Job:
    """One edit. `state` is `exporting`, `sending`, `queued`, `running`, `fetching`, `done`, `failed` or `cancelled`."""

    def __init__(self, source: strips.Source, settings: EditSettings):
        """Begin; `Trouble` where the frames cannot be written."""
        self.id = uuid.uuid4().hex
        self.source, self.settings = source, settings
        self.document = documents.current()
        self.state, self.stage = "exporting", ""
        self.step, self.steps = 0, source.count
        self.fraction, self.seconds_left = 0.0, None
        self.cancelling = False
        self.trouble: Trouble | None = None
        self.notes: list[str] = []
        self.timings: dict[str, float] = {}
        self.result = ""
        """The new strip's name, once there is one."""
        self.folder: Path | None = None
        """The result's files, once they are there."""
        self._digest = ""
        self._landing: reimport.Landing | None = None
        self._export = Export(source, exports_folder() / f"{os.getpid()}-{self.id}")

    @property
    def final(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in ("done", "failed", "cancelled")

    def export_step(self, session: Session) -> None:
        """Export one more frame, and hand the job over after the last one."""
        if not self.document.is_open():
            raise Trouble(
                "Another file was opened before all of '{name}' was exported.", "Open {file} and edit the strip again.",
                name=self.source.name, file=self.document.path.name,
            )  # fmt: skip
        self._export.render_next()
        self.step = len(self._export.frames)
        if self._export.complete:
            self.state, self.step = "sending", 0
            order = client.Order(self.id, self.settings, self._export.frames, self.source.fps)
            session.client.submit(order, preferences.engine_python())

    def handle(self, event: client.Event, session: Session) -> None:
        """Take in what the client says about this job."""
        match event:
            case client.Sending(done=done, total=total):
                self.step, self.steps = done, total
            case client.Sent(digest=digest):
                self._digest = digest
                self._export.discard()
            case client.JobChanged(status=status) if status.state == "done":
                self.notes, self.timings = status.notes, status.timings
                self._fetch(session)
            case client.JobChanged(status=status):
                self.state, self.stage = status.state, status.stage
                self.step, self.steps = status.step, status.steps
                self.fraction, self.seconds_left = status.fraction, status.seconds_left
            case client.Fetching(done=done, total=total):
                self.step, self.steps = done, total
            case client.Arrived(fetched=fetched):
                self._land(len(fetched.frames), session.welcome)
            case client.JobLost(trouble=trouble):
                self.end("failed" if trouble else "cancelled", trouble)

    def cancel(self, session: Session) -> None:
        """End it as soon as the engine lets go of it."""
        if self.state == "exporting":
            self.end("cancelled")
        else:
            self.cancelling = True
            session.client.cancel(self.id)

    def end(self, state: str, trouble: Trouble | None = None) -> None:
        """It is over: leave no file behind but a finished result."""
        self.state, self.trouble = state, trouble
        self._export.discard()
        if self._landing and state != "done":
            self._landing.discard()

    def _fetch(self, session: Session) -> None:
        self.state, self.step, self.fraction, self.seconds_left = "fetching", 0, 1.0, None
        self._landing = reimport.Landing(self.document.path.parent, self.source.name)
        self._landing.open()
        session.client.fetch(self.id, self._landing.unfinished)

    def _land(self, count: int, welcome: Welcome) -> None:
        """Show the files under their name and put the strip where its source is now."""
        self._landing.show()
        self.folder = self._landing.folder
        frames = [self.folder / "frames" / f"{number:05}.png" for number in range(1, count + 1)]
        self.end("done")
        try:
            if not self.document.is_open():
                raise Trouble("'{name}' is not in the file that is open now.", name=self.source.name)
            self.result = reimport.insert(self.source, frames, self._origin(welcome))
        except Trouble as trouble:
            self._keep(frames, trouble)
        except Exception as error:
            log.exception("the strip could not be made")
            self._keep(frames, _unexpected(error))

    def _keep(self, frames: list[Path], reason: Trouble) -> None:
        """There is no strip, but there are its files: say where."""
        self.trouble = Trouble(
            "{reason} The edited frames are in {folder}.", "Add them with Add, Image/Sequence.",
            reason=reason, folder=frames[0].parent,
        )  # fmt: skip

    def _origin(self, welcome: Welcome) -> reimport.Origin:
        return reimport.Origin(
            job_id=self.id,
            source=self.settings.source,
            target=self.settings.target,
            settings=msgspec.json.encode(self.settings).decode(),
            model=self.settings.model,
            engine=welcome.engine,
            protocol=PROTOCOL_VERSION,
            strip=self.source.name,
            source_digest=self._digest,
        )


class Session:
    """What the add-on does in this Blender: the engine's state, and the newest job."""

    def __init__(self):
        self.job: Job | None = None
        self.engine = "off"
        """`off`, `starting` or `ready`."""
        self.welcome: Welcome | None = None
        self.trouble: Trouble | None = None
        """The last thing that went wrong, until the next try."""
        self._client: client.Client | None = None

    @property
    def client(self) -> client.Client:
        """The thread that talks to the engine, made when it is first needed."""
        if self._client is None:
            self._client = client.Client(home_folder())
        return self._client

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self.job is not None and not self.job.final

    def edit(self, source: strips.Source, settings: EditSettings) -> Job:
        """Begin a job; the timer or `pump` carries it on. `Trouble` where it cannot begin."""
        python = preferences.engine_python()
        if python is None and self.engine == "off":
            raise Trouble(*client.engine_process.NOT_INSTALLED)
        self.trouble = None
        self.job = Job(source, settings)
        if self.engine == "off":
            self.start_engine()  # it starts while the frames are exported
        return self.job

    def start_engine(self) -> None:
        """Have the engine running; `engine` and `trouble` tell how that goes."""
        self.trouble, self.engine = None, "starting"
        self.client.start(preferences.engine_python())

    def stop_engine(self) -> None:
        """End the engine, and with it the job that it works on."""
        if self.busy and self.job.state == "exporting":
            self.job.end("cancelled")
        self.client.stop()

    def tick(self) -> bool:
        """Take in what happened and do a little; whether anything changed. Does nothing while Blender is occupied."""
        if documents.occupied():
            return False
        deadline = time.monotonic() + TICK_BUDGET
        changed = self._drain()
        while self.busy and self.job.state == "exporting":
            changed = True
            self._step(self.job.export_step, self)
            if time.monotonic() > deadline:
                break
        return changed

    def close(self) -> None:
        """End everything that this session began."""
        if self.busy:
            self.job.end("cancelled")
        if self._client:
            self._client.close()
            self._client = None
        self.engine, self.welcome = "off", None

    def _drain(self) -> bool:
        changed = False
        while self._client and not self._client.events.empty():
            event = self._client.events.get()
            changed = True
            if isinstance(event, client.EngineChanged):
                self.engine, self.welcome = event.state, event.welcome or self.welcome
                if event.trouble and not self.busy:
                    self.trouble = event.trouble
                if event.state == "off" and event.trouble and self.busy and self.job.state == "exporting":
                    self._fail(event.trouble)
            elif self.busy and _job_id(event) == self.job.id:
                self._step(self.job.handle, event, self)
                self.trouble = self.job.trouble
        return changed

    def _step(self, do: Callable[..., None], *arguments) -> None:
        try:
            do(*arguments)
        except Trouble as trouble:
            self._fail(trouble)
        except Exception as error:  # Blender drops a timer that raises, and the job would stay under way for ever
            log.exception("a job's step failed")
            if self.busy:
                self._fail(_unexpected(error))

    def _fail(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.job.end("failed", trouble)


session = Session()


def tick() -> float | None:
    """The add-on's one timer: seconds until it wants to run again, None when there is nothing to watch."""
    if session.tick():
        redraw()
    if installer.current and installer.current.running:
        redraw()
        return BUSY
    if session.busy or session.engine == "starting":
        return BUSY
    return IDLE if session.engine != "off" else None


def watch() -> None:
    """Have the timer run from now on."""
    if not bpy.app.timers.is_registered(tick):
        bpy.app.timers.register(tick, persistent=True)


def wait(seconds: float = float("inf")) -> None:
    """Do the timer's work by hand until the job has ended: for scripts, and for Blender without a window."""
    deadline = time.monotonic() + seconds
    while session.busy and time.monotonic() < deadline:
        if not session.tick():
            time.sleep(0.02)


def redraw() -> None:
    """Have the sequencer's panels drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "SEQUENCE_EDITOR":
                area.tag_redraw()


def home_folder() -> Path:
    """Where the engine keeps its files."""
    return Path(bpy.utils.extension_path_user(__package__, path="home", create=True))


def exports_folder() -> Path:
    """Where frames wait until they are sent."""
    return Path(bpy.utils.extension_path_user(__package__, path="exports", create=True))


def remove_leftovers() -> None:
    """Remove what Blenders left in the exports' folder that were killed while they exported."""
    for folder in exports_folder().iterdir():
        pid = folder.name.partition("-")[0]
        if pid.isdecimal() and not process_runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _unexpected(error: Exception) -> Trouble:
    """What is said of an error that nobody has foreseen; Blender's console has all of it."""
    return Trouble(
        "Something unexpected happened ({reason}).", "Please report it with what Blender's console says.",
        reason=f"{type(error).__name__}: {error}",
    )  # fmt: skip


def _job_id(event: client.Event) -> str:
    return event.status.job_id if isinstance(event, client.JobChanged) else event.job_id
