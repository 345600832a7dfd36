"""One job on Blender's side: from a strip over the engine to a strip, one small step at a time on the main thread."""

from __future__ import annotations

import dataclasses
import time
import uuid
from pathlib import Path

from . import documents, events, fingerprint, folders, landing, reimport, strips, thumbnails, versions
from .client import Client
from .documents import Document
from .export import Export, OwnMasks
from .landing import Landing
from .mask_files import About
from .orders import Order
from .protocol import limits
from .protocol.messages import Task, WordSeen
from .protocol.settings import EditSettings
from .protocol.tuning import Tuning
from .records import Record
from .trouble import Trouble, told
from .uploads import AheadOfJob

SHOWS_THROUGH = "The strip is partly transparent, and is seen through its edit, too: mute it to see the edit alone."
FINAL = ("done", "failed", "cancelled")
"""The job has ended."""
AT_REST = ("unfetched", "unplaced")
"""Its result is at the engine, or its files are here, and somebody has to do something about what is in the way."""


class Job:
    """One edit; or one search for the masks of a prompt's words, or one tuning of a model (`task`), which end without a
    strip.

    `state` is `exporting`, `sending`, `queued`, `running`, `paused`, `fetching` or `placing`; `unfetched` where the
    result cannot be written here, `unplaced` where its document is not open, or `hindered` where something else is in
    the strip's way; in the end `done`, `failed` or `cancelled`.
    """

    def __init__(self, job_id: str, source: strips.Source, settings: EditSettings, document: Document, engine: str):
        """`engine` is the name of the place that the job is for."""
        self.id, self.source, self.settings, self.document, self.engine = job_id, source, settings, document, engine
        self.begun = time.time()
        self.state, self.stage = "exporting", ""
        self.step, self.steps = 0, source.count
        self.fraction, self.seconds_left = 0.0, None
        self.ahead = 0
        """Own jobs before it in the engine's queue."""
        self.workers, self.waits = 0, ""
        """How many workers have a part of it; and what it waits for beside its turn."""
        self.cancelling = self.hindered = False
        self.trouble: Trouble | None = None
        self.notes: list[str] = []
        self.timings: dict[str, float] = {}
        self.result = ""
        """The new strip's name, once there is one."""
        self.folder: Path | None = None
        """The result's files, once they are there."""
        self.task: Task = "edit"
        self.tuning: Tuning | None = None
        self.take_model, self.loss, self.model = False, None, ""
        """Of a tuning: what it makes and whether the panel shall take that; its training's error; and the model's name,
        once it is there."""
        self.mask_set: Path | None = None
        """The folder with the masks that it has made, once they are there: of an edit those of its mask and blend words."""
        self.words: list[WordSeen] = []
        """The source prompt's words as the model has seen them, once it is done there."""
        self.preview: events.Preview | None = None
        """What its work looks like, while it runs."""
        self.at_engine = False
        """Whether the engine has it for certain."""
        self.replaces, self.known_digest, self.fingerprint = "", "", ""
        """The job whose result it makes anew; the digest of frames that are not worth sending again; and what the
        strip looked like when it was begun."""
        self.unsaved, self.tell = False, ""
        """Whether its strip is in a document that has not been saved since: until then the job is noted down. And what
        the engine has yet to be told: `taken`, `forget` or nothing."""
        self._was_sending = False
        self._digest, self._made_by, self._frames = "", "", 0
        self._landing: Landing | None = None
        self._export: Export | None = None
        self._own_masks: OwnMasks | None = None
        self.upload = AheadOfJob()

    @classmethod
    def begin(
        cls,
        source: strips.Source,
        settings: EditSettings,
        engine: str,
        task: Task = "edit",
        own_masks: OwnMasks | None = None,
        tuning: Tuning | None = None,
    ) -> Job:
        """A new one; `Trouble` where its frames or its result could not be written, or no engine would take them.

        `own_masks` are the job's then.
        """
        strips.check_size(source)
        document = documents.current() if task == "edit" else documents.here()
        job = cls(uuid.uuid4().hex, source, settings, document, engine)
        if task == "edit":
            landing.probe(job.document.path)
        job.task, job.tuning, job._own_masks = task, tuning, own_masks
        job.steps = source.pictures
        job.fingerprint = fingerprint.now(source)
        job._export = Export(source, folders.export_folder(job.id))
        job.steps *= len(job._exports)
        return job

    @classmethod
    def found(cls, record: Record) -> Job:
        """One that an earlier session has begun."""
        document = documents.earlier(record.document)
        job = cls(record.job_id, record.source, record.settings, document, record.engine)
        job.begun, job.task, job.replaces, job.fingerprint = (
            record.begun,
            record.task,
            record.replaces,
            record.fingerprint,
        )
        job.tuning, job.take_model = record.tuning, record.take_model
        job._was_sending = record.state == "sending"
        job.at_engine, job.tell, job.notes = not job._was_sending, record.tell, record.notes
        job._digest, job._made_by, job._frames = record.digest, record.made_by, record.frames
        job._landing = record.landing and Landing(record.landing)
        job.state, job.steps = "queued", 0
        if record.tell == "forget":
            job.state = "cancelled"  # whatever it was, it has only to be ended where its engine has it
        elif record.state == "over":
            job.state = "done"
        elif record.state == "arrived":
            job.folder = record.landing
            job.look_for_document()
        return job

    def record(self) -> Record | None:
        """What must be known of it to go on after this Blender; None where that is nothing."""
        over = self.state in ("done", "cancelled") or (self.state == "failed" and not self.at_engine)
        if self.state == "exporting" or (over and not self.tell and not self.unsaved):
            return None
        here = self.unsaved if over else self.folder
        state = "arrived" if here else "over" if over else "sent" if self.at_engine else "sending"
        return Record(
            job_id=self.id,
            engine=self.engine,
            begun=self.begun,
            document=self.document.saved_as,
            source=self.source,
            settings=self.settings,
            state=state,
            tell=self.tell,
            landing=self.folder or (self._landing and self._landing.folder),
            digest=self._digest,
            made_by=self._made_by,
            frames=self._frames,
            notes=self.notes,
            task=self.task,
            replaces=self.replaces,
            fingerprint=self.fingerprint,
            tuning=self.tuning,
            take_model=self.take_model,
        )

    @property
    def _exports(self) -> list[Export | OwnMasks]:
        """What has to be written before it can be sent."""
        return [part for part in (self._export, self._own_masks) if part]

    @property
    def final(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in FINAL

    @property
    def under_way(self) -> bool:
        """Whether it has neither ended nor come to rest."""
        return not self.final and self.state not in AT_REST

    def export_step(self, client: Client) -> None:
        """Export one more frame, which is sent beside the next one, and hand the job over after the last one."""
        if not self.document.is_open():
            raise Trouble(
                "Another file was opened before all of '{name}' was exported.", "Open {file} and edit the strip again.",
                name=self.source.name, file=self.document.path.name,
            )  # fmt: skip
        part = next(part for part in self._exports if not part.complete)
        part.render_next()
        if not self.known_digest:  # else only when all frames are there it is known whether any is worth sending
            self.upload.add(part.frames[-1], client)
        self.step = sum(len(part.frames) for part in self._exports)
        if not all(part.complete for part in self._exports):
            return
        thumbnails.keep(self.id, self._export.frames[0])
        self._digest = self._export.digest
        if self._digest == self.known_digest:
            self._leave_as_it_is()
            return
        self.state, self.step = "sending", self.upload.sent
        self.upload.end()
        masks = self._own_masks.frames if self._own_masks else []
        fps, project = min(self.source.fps / self.source.step, limits.MAX_FPS), strips.as_text(self.document.path.stem)
        client.submit(Order(self.id, self.settings, self._export.frames, fps, project, self.task, masks, self.tuning))

    def handle(self, event: events.Event, client: Client) -> None:
        """Take in what the client says about this job."""
        match event:
            case events.Told():
                self.tell = ""
            case events.JobLost() if self.final:
                pass  # it was ended here at once, and now there
            case events.JobLost(trouble=trouble) if trouble is None or self.tell == "forget":
                self.end("cancelled")
            case events.JobLost(trouble=trouble):
                self.end("failed", self._cut_off() if self._was_sending and not self.at_engine else trouble)
            case events.Refused(trouble=trouble):
                if self.cancelling and not self.final:  # it goes on there: to be seen, and cancelled again
                    self.state = "queued"
                self.cancelling, self.trouble = False, trouble
            case _ if self.cancelling or self.state == "cancelled":
                pass
            case events.Sending(done=done, total=total) | events.Fetching(done=done, total=total):
                self.step, self.steps = done, total
            case events.Sent():
                self.at_engine, self.trouble = True, None
                self._end_export()
            case events.JobChanged(status=status) if status.state == "done":
                self.notes, self.timings, self.words = status.notes, status.timings, status.words
                self.at_engine, self.preview = True, None
                if self.task == "tune":
                    self._take_model(status.model, client)
                elif self.state != "fetching":
                    self.fetch(client)
            case events.JobChanged(status=status):
                self.state, self.stage, self.at_engine = status.state, status.stage, True
                self.step, self.steps, self.ahead = status.step, status.steps, status.ahead
                self.fraction, self.seconds_left = status.fraction, status.seconds_left
                self.preview = self.preview if self.state == "running" else None
                self.workers, self.waits, self.loss = status.workers, status.waits, status.loss
            case events.Previewed(preview=preview) if self.state == "running":
                self.preview = preview
            case events.Arrived() | events.NotFetched() if self.state != "fetching":
                pass
            case events.Arrived(folder=folder, frames=frames, made_by=made_by, mask_set=mask_set):
                self.folder, self._frames, self._made_by, self.mask_set = folder, frames, made_by, mask_set
                self.tell = "taken"
                client.tell(self.id, "taken")
                if self.task == "edit":
                    self.look_for_document()
                else:
                    self.end("done")
            case events.NotFetched(trouble=trouble):
                self.state, self.trouble = "unfetched", trouble

    def fetch(self, client: Client) -> None:
        """Bring the result here."""
        self.state, self.step, self.steps, self.trouble = "fetching", 0, 0, None
        self.fraction, self.seconds_left = 1.0, None
        masks = About(
            folders.masks_folder() / self.id, dataclasses.asdict(self.source), self.settings.source, self._digest
        )
        if self.task == "masks":
            self._landing = Landing(masks.folder)
        elif self._landing and not self._landing.is_beside(self.document.path):
            self._landing.discard()  # the document has been saved elsewhere since the last try
            self._landing = None
        self._landing = self._landing or Landing.beside(self.document.path, self.source.name)
        client.fetch(self.id, self._landing, masks)

    def _take_model(self, name: str, client: Client) -> None:
        """The engine has what it made, and keeps it: nothing comes here."""
        if not self.final:
            self.model, self.tell = name, "taken"
            client.tell(self.id, "taken")
            self.end("done")

    def take_up(self, client: Client) -> None:
        """Go on with a client that has just been told to start."""
        if self.tell == "forget":
            self._drop(client)
            return
        if self.tell:
            client.tell(self.id, self.tell)
        if self.state in ("queued", "running", "paused", "fetching", "unfetched"):
            client.follow(self.id)

    def cancel(self, client: Client | None) -> None:
        """End it as soon as the engine lets go of it; what it has of it is dropped, there and here."""
        if self.state == "exporting":
            self.end("cancelled")
            return
        self._drop(client)

    def change(self, client: Client, how: str) -> None:
        """`pause` or `resume` it, or `retry` one that failed."""
        self.trouble = None
        client.change(self.id, how)

    def forget(self, client: Client | None) -> None:
        """The user is done with it, and so is the engine. A result that is here stays."""
        if self.state == "unplaced":
            self.end("done", self.trouble)
        elif self.state == "unfetched" or (self.state == "failed" and self.at_engine):
            self._drop(client)
            self.end("cancelled", self.trouble)

    def _drop(self, client: Client | None) -> None:
        self.cancelling, self.tell = True, "forget"
        if client:
            client.cancel(self.id, self._landing)
        elif self._landing:
            self._landing.discard()

    def end(self, state: str, trouble: Trouble | None = None) -> None:
        """It is over: leave no file behind but a finished result."""
        self.state, self.trouble, self.preview = state, trouble, None
        self._end_export()

    def look_for_document(self) -> None:
        """All files are here: the strip can be made if its document is open."""
        self.hindered = False
        if self.document.is_open():
            self.state, self.trouble = "placing", None
            return
        self.state = "unplaced"
        self.trouble = Trouble(
            "'{name}' is not in the file that is open now. The edited frames are in {folder}.",
            "Open {file} to place them, or place them here.",
            name=self.source.name, folder=self.folder / "frames", file=self.document.path.name,
        )  # fmt: skip

    def place(self) -> None:
        """Put the strip where its source is now, in its document."""
        self.look_for_document()
        if self.state == "unplaced":
            return
        frames = [self.folder / "frames" / f"{number:05}.png" for number in range(1, self._frames + 1)]
        self.end("done")
        thumbnails.keep(self.id, frames[0])
        self.result = versions.strips_by_job().get(self.id, "")
        if self.result:  # placed in a file that was saved after all, or in one that Blender has recovered
            self.unsaved = not self.document.written_since(self.folder)
            return
        try:
            self.result = self._replace(frames) or reimport.insert(self.source, frames, self._origin())
            self.unsaved = True
            if (below := strips.find(self.source)) and strips.shows_through(below):
                self.notes = [*self.notes, SHOWS_THROUGH]
        except Exception as error:  # noqa: BLE001  the frames are kept, whatever it is
            self.hindered = True
            reason = Trouble(
                "{reason} The edited frames are in {folder}.",
                "Mend that and choose Place Here, or add them with Add, Image/Sequence.",
                reason=told(error), folder=frames[0].parent,
            )  # fmt: skip
            self.end("unplaced", reason)

    def _replace(self, frames: list[Path]) -> str:
        """Give the strips their new frames that show what is made anew; the name of one, or nothing if none is left."""
        scene = strips.scene_of(self.source)
        return versions.replace(scene, self.replaces, frames, self._origin()) if scene else ""

    def read_again(self) -> None:
        """A file was opened: what was placed in one that was not saved is to be placed once more, or tried again."""
        if self.unsaved or self.hindered:
            self.unsaved = False
            self.look_for_document()

    def _leave_as_it_is(self) -> None:
        """What the strip shows is what the result was made from: there is nothing to compute."""
        self.end("done")
        self.notes = ["The strip shows what it showed when its result was made, so nothing was computed."]
        self.result = versions.confirm(strips.scene_of(self.source), self.replaces, self.fingerprint)

    def follow_document(self) -> None:
        """Take note of where the document is saved now."""
        self.document = documents.followed(self.document)

    def move_to(self, engine: str) -> None:
        """Another engine was chosen while it is exported: that one gets all its frames."""
        self.engine = engine
        self.upload.end()

    def _end_export(self) -> None:
        self.upload.end()
        for part in self._exports:
            part.discard()
        self._export = self._own_masks = None

    def _cut_off(self) -> Trouble:
        return Trouble(
            "'{name}' had not reached the engine when Blender ended.", "Edit the strip again.", name=self.source.name
        )

    def _origin(self) -> reimport.Origin:
        return reimport.origin_for(
            self.id, self.source, self.settings, self._made_by, self._digest, self.fingerprint, time.time()
        )
