"""What the add-on does in this Blender: all its jobs, and the engine they are for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import msgspec

from . import chosen, documents, events, finished, folders, strips, thumbnails
from .client import Client
from .engine_process import NOT_INSTALLED
from .export import OwnMasks
from .job import Job
from .places import Local, Place
from .protocol import limits
from .protocol.messages import Task, Welcome
from .protocol.settings import BUILTIN_MODEL, EditSettings, for_masks
from .protocol.tuning import Tuning, for_tuning
from .records import Record, Shelf
from .trouble import Trouble, told

log = logging.getLogger(__name__)

TICK_BUDGET = 0.02
"""Seconds of Blender's time that a tick may take, beyond the one frame that it renders at least."""
KEEP_AGAIN = 5.0
"""Seconds until it is tried again to note down jobs that the disk has not taken."""
MOST_AT_ENGINE = limits.MAX_CLIENT_JOBS - 8
"""Jobs that the engine has at a time: further ones wait here."""


class Session:
    """What the add-on does in this Blender: its jobs, oldest first, and the state of the engine."""

    def __init__(self):
        self.jobs: list[Job] = []
        self.engine = "off"
        """`off`, `starting`, `ready` or `lost`: the connection broke, and is tried again."""
        self.welcome: Welcome | None = None
        self.holds: events.EngineHolds | None = None
        """The memory that the engine holds, once it has said so."""
        self.trouble: Trouble | None = None
        """The last thing that went wrong, until the next try."""
        self._over: list[Job] = []
        """Jobs that are no longer shown, and of which the engine has yet to be told."""
        self._client: Client | None = None
        self._shelf: Shelf | None = None
        self._kept: dict[str, Record] = {}
        self._refused: dict[str, Record] | None = None
        """What the disk last did not take, and when (of `time.monotonic`) that is tried again."""
        self._keep_again = 0.0
        self._look = True
        self._wanted = False
        """Whether the engine shall run: it was started, and neither stopped nor given up since."""

    @property
    def job(self) -> Job | None:
        """The newest one."""
        return self.jobs[-1] if self.jobs else None

    @property
    def client(self) -> Client:
        """The thread that talks to the engine, made when it is first needed."""
        if self._client is None:
            self._client = Client(chosen.place(), folders.early_folder())
        return self._client

    @property
    def busy(self) -> bool:
        """Whether time alone brings a job further."""
        return any(self.carries_on(job) for job in self.jobs)

    def carries_on(self, job: Job) -> bool:
        """Whether time alone brings the job further: it does not while the engine is off."""
        return job.state == "placing" or (job.under_way and self.engine != "off" and self.has(job))

    def has(self, job: Job) -> bool:
        """Whether the job is with the engine that is chosen now."""
        return job.engine == (self._client.place.name if self._client else chosen.name())

    def survey(self, source: strips.Source, settings: EditSettings) -> Job:
        """Begin to find the masks of all words of the source prompt, as `edit`; an edit then goes on from there."""
        return self.edit(source, for_masks(settings), task="masks")

    def tune(self, source: strips.Source, settings: EditSettings, tuning: Tuning, take_model: bool) -> Job:
        """Begin to tune the settings' model on the strip, as `edit`; `take_model`: whether the panel shall have it then."""
        job = self.edit(source, for_tuning(settings), task="tune", tuning=tuning)
        job.take_model = take_model
        return job

    def knows(self, model: str, tuned_from: str) -> None:
        """The engine has a model that it had not when it was connected."""
        if self.welcome and model not in self.welcome.models:
            ours = [model] if tuned_from == BUILTIN_MODEL else []
            self.welcome = msgspec.structs.replace(
                self.welcome,
                models=[*self.welcome.models, model],
                from_builtin=[*self.welcome.from_builtin, *ours],
            )

    def edit(
        self,
        source: strips.Source,
        settings: EditSettings,
        own_masks: OwnMasks | None = None,
        task: Task = "edit",
        replaces: str = "",
        known_digest: str = "",
        tuning: Tuning | None = None,
    ) -> Job:
        """Begin a job; the timer or `wait` carries it on. `Trouble` where it cannot begin.

        `own_masks`: where `settings.own_mask` says what they do; they are discarded with the job. Its frames go to the
        strips that show what the job `replaces` made, and are not even computed where the source has the `known_digest`.
        """
        place = chosen.place()
        chosen.check(place)
        if isinstance(place, Local) and place.python is None and self.engine == "off":
            raise Trouble(*NOT_INSTALLED)
        self.trouble = None
        self._over += [job for job in self.jobs if job.state == "cancelled"]
        self.jobs = [job for job in self.jobs if job.state != "cancelled"]
        self.jobs.append(job := Job.begin(source, settings, place.name, task, own_masks, tuning))
        job.replaces, job.known_digest = replaces, known_digest
        if not self._wanted:
            self.start_engine()  # it starts while the frames are exported
        return job

    def cancel(self, job: Job) -> None:
        """End a job, wherever it is."""
        job.cancel(self._client_of(job))
        if not job.final and (self.engine != "ready" or not self.has(job)):
            self._step(job, job.end, "cancelled")  # the engine learns of it later
        self.keep()

    def change(self, job: Job, how: str) -> None:
        """`pause`, `resume` or `retry` a job that the engine has."""
        job.change(self.client, how)
        self._ensure_engine()

    def fetch_again(self, job: Job) -> None:
        """Try once more to bring a job's result here."""
        job.fetch(self.client)
        self._ensure_engine()

    def dismiss(self, job: Job) -> None:
        """Show a job no more that has ended or come to rest. What the engine has of it is dropped."""
        job.forget(self._client_of(job))
        self.jobs.remove(job)
        self._over.append(job)
        thumbnails.drop(job.id)
        self.keep()
        if self.trouble is job.trouble:
            self.trouble = None

    def start_engine(self) -> None:
        """Have the engine running; `engine` and `trouble` tell how that goes. `Trouble` where it must not be."""
        self.trouble = None
        chosen.check(chosen.place())
        if self._client:
            self.use_place()  # a Python may have been installed meanwhile
        if self.engine == "off":
            self.engine = "starting"
        self._wanted = True
        self.client.start()
        for job in (*self.jobs, *self._over):
            if self.has(job):
                job.take_up(self.client)

    def stop_engine(self) -> None:
        """End the engine; its jobs, those too that are exported or sent for it, go on with the next one."""
        self._wanted = False
        self.client.stop()

    def free_memory(self) -> None:
        """Have the engine free the memory that it holds; a job that runs keeps it from that."""
        self.trouble = None
        self.client.rest()

    def use_place(self) -> None:
        """Go by what the preferences say about the engine now."""
        place, client = chosen.place(), self._client
        if client and client.place == place:
            return
        if client and isinstance(place, Local) and isinstance(client.place, Local):
            client.use(place)
            return
        if client:
            client.leave()
            self._client, self.engine, self.welcome, self._wanted = None, "off", None, False
        for job in self.jobs:
            if job.state == "exporting":
                job.move_to(place.name)
            elif job.state == "sending":
                self._fail(job, Trouble("Another engine was chosen before the first one had all frames.", "Try again."))
            elif job.state == "fetching":
                job.state = "queued"  # to be asked for again
        self._take_up(self.jobs, place)

    def tick(self) -> bool:
        """Take in what happened and do a little; whether anything changed. Does nothing while Blender is occupied."""
        if documents.occupied():
            return False
        deadline = time.monotonic() + TICK_BUDGET
        changed = self._adopt() if self._look else False
        changed |= self._drain()
        changed |= self._place()
        while job := self._next_to_export():
            changed = True
            self._step(job, job.export_step, self.client)
            if time.monotonic() > deadline:
                break
        self.keep()
        finished.tell(self.jobs)
        return changed

    def look(self) -> None:
        """See at the next tick whether Blenders that are gone have left jobs."""
        self._look = True

    def saved(self) -> None:
        """The open document is on disk now, with all strips that were placed in it."""
        for job in (*self.jobs, *self._over):
            if job.document.is_open():
                job.unsaved = False
        self.keep()

    def opened(self) -> None:
        """A file was opened; see at the next tick whether Blenders that are gone have left jobs, too."""
        self.look()
        for job in (*self.jobs, *self._over):
            job.read_again()
        self.jobs += [job for job in self._over if not job.final]  # dismissed, and its strip was in no saved file
        self._over = [job for job in self._over if job.final]

    def keep(self) -> None:
        """Have on disk what must be known to go on after this Blender."""
        records = {}
        for job in (*self.jobs, *self._over):
            job.follow_document()
            if record := job.record():
                records[job.id] = record
        self._over = [job for job in self._over if job.id in records]
        if records == self._kept or (records == self._refused and time.monotonic() < self._keep_again):
            return
        try:
            shelf = self._open_shelf()
            for job_id in self._kept.keys() - records.keys():
                shelf.remove(job_id)
                del self._kept[job_id]
            for job_id, record in records.items():
                if record != self._kept.get(job_id):
                    shelf.put(record)
                    self._kept[job_id] = record
            self._refused = None
        except OSError as error:
            if records != self._refused:  # said once, and tried again until it works
                self.trouble = Trouble(
                    "The jobs cannot be noted down ({reason}), so they would not be found again after Blender ends.",
                    "Make room in {folder}.", reason=error.strerror, folder=folders.records_folder(),
                )  # fmt: skip
            self._refused, self._keep_again = records, time.monotonic() + KEEP_AGAIN

    def close(self) -> None:
        """Let go of everything. What the engine has is noted down and goes on; the rest is cancelled."""
        for job in self.jobs:
            if job.state == "exporting":
                job.end("cancelled")
        self._keep_again = 0.0
        self.keep()
        if self._client:
            self._client.close()
        if self._shelf:
            self._shelf.close()
        self.__init__()

    def _open_shelf(self) -> Shelf:
        if self._shelf is None:
            self._shelf = Shelf(folders.records_folder())
        return self._shelf

    def _adopt(self) -> bool:
        """Take over the jobs of Blenders that are gone."""
        self._look = False
        try:
            records = self._open_shelf().adopt()
        except OSError as error:
            log.warning("jobs of earlier sessions cannot be looked for: %s", error)
            return False
        self._kept |= {record.job_id: record for record in records}
        found = [Job.found(record) for record in sorted(records, key=lambda record: record.begun)]
        self.jobs[:0] = [job for job in found if not job.final]
        self._over += [job for job in found if job.final]
        thumbnails.clean_up({job.id for job in self.jobs})
        self._take_up(found, chosen.place())
        return bool(found)

    def _take_up(self, jobs: list[Job], place: Place) -> None:
        """Go on with those of the jobs that the engine at `place` has."""
        ours = [job for job in jobs if job.engine == place.name]
        if self.engine != "off":
            for job in ours:
                job.take_up(self.client)
        elif any(job.under_way for job in ours):
            self._ensure_engine()

    def _ensure_engine(self) -> None:
        if not self._wanted:
            try:
                self.start_engine()
            except Trouble as trouble:
                self.trouble = trouble

    def _client_of(self, job: Job) -> Client | None:
        return self.client if self.has(job) else None

    def _drain(self) -> bool:
        changed = False
        for event in self._events():
            changed = True
            if isinstance(event, events.EngineChanged):
                self._engine_changed(event)
                continue
            if isinstance(event, events.EngineHolds):
                self.holds = event
                continue
            if isinstance(event, events.Refused) and not event.job_id:
                self.trouble = event.trouble
                continue
            for job in (*self.jobs, *self._over):
                if job.id == event.job_id:
                    self._step(job, job.handle, event, self.client)
        return changed

    def alone(self, do: Callable[[], None]) -> bool:
        """Do something while the client's thread stands still; whether it did: it is asked to, so try again until then."""
        client = self._client
        if client and not client.standing.ask():
            return False
        try:
            do()
        finally:
            if client:
                client.standing.go()
        return True

    def _place(self) -> bool:
        """Put the strips of results into the open document."""
        for job in self.jobs:
            if job.state == "unplaced" and not job.hindered and job.document.is_open():
                self._step(job, job.look_for_document)
        ready = [job for job in self.jobs if job.state == "placing"]
        for job in ready:
            self._step(job, job.place)
        return bool(ready)

    def _events(self) -> Iterator[events.Event]:
        while self._client and not self._client.events.empty():
            yield self._client.events.get()

    def _engine_changed(self, event: events.EngineChanged) -> None:
        self._wanted = self._wanted and not (event.state == "off" and event.trouble)
        stopped_and_started = event.state == "off" and self._wanted
        self.engine, self.welcome = "starting" if stopped_and_started else event.state, event.welcome or self.welcome
        if event.state != "ready":
            self.holds = None
        if event.state == "ready":
            self._look = True
        if event.state == "off" and event.trouble:
            self.trouble = event.trouble
            for job in self.jobs:
                if job.state == "exporting":
                    self._fail(job, event.trouble)

    def _step(self, job: Job, do: Callable[..., None], *arguments) -> None:
        before = job.trouble
        try:
            do(*arguments)
        except Exception as error:  # noqa: BLE001  Blender drops a timer that raises, and the job would stay under way for ever
            job.end("failed", told(error))
        if job.trouble is not before:
            self.trouble = job.trouble or (None if self.trouble is before else self.trouble)

    def _next_to_export(self) -> Job | None:
        """The first job that is to be exported, while there is an engine, and it takes on more of them."""
        if not self._wanted:
            return None
        at_engine = sum(job.under_way and job.state != "exporting" for job in self.jobs)
        waiting = (job for job in self.jobs if job.state == "exporting")
        return next(waiting, None) if at_engine < MOST_AT_ENGINE else None

    def _fail(self, job: Job, trouble: Trouble) -> None:
        self.trouble = trouble
        job.end("failed", trouble)
