"""The client's end: one connection to one engine, used from one thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from . import PROTOCOL_VERSION, files, limits, messages, wire
from .endpoint import Endpoint
from .errors import ProtocolError
from .files import Download, Fetched
from .line import Line, Request, nonsense
from .messages import Ends, JobStatus, Preview, Task, Welcome
from .settings import EditSettings
from .tuning import Tuning

PATIENCE = 20.0
"""Seconds that an answer may take, where the caller names no time."""
REPEAT_AFTER = 2.0
"""Seconds after which an unanswered request is sent again: the engine drops answers to a client that does not read."""
TRANSFER_PATIENCE, TRANSFER_REPEAT_AFTER = 60.0, 10.0
"""The same for chunks, which take their time over a slow line."""
MAX_ROUNDS = 3
"""Uploads of one job's frames, before it is said that they do not stay."""

Report = Callable[[int, int], None]
"""Called with how many files are there and how many there are in all; an exception raised in it ends the transfer."""


class Connection:
    """A connection to the engine at `endpoint`; `client` names this program in the engine's log.

    `meanwhile`, where it is given, is called about ten times a second while answers are waited for, also between the
    chunks of a transfer. It must not use this connection; an exception raised in it ends what is under way.

    Every method but `close` raises `ProtocolError`. Once a connection is lost it stays so: read the endpoint file
    again and make a new one; the engine knows its jobs by their ids.
    """

    def __init__(self, endpoint: Endpoint, *, client: str = "client", meanwhile: Callable[[], None] = lambda: None):
        self._client, self._line = client, Line(endpoint, meanwhile)
        self._most_offered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs go on without it. Harmless when repeated."""
        self._line.close()

    def hello(self, timeout: float = 5.0) -> Welcome:
        """Agree on a version, learn what the engine has, and be told of events from now on."""
        welcome = self._ask(
            messages.Hello(client=self._client, versions=[PROTOCOL_VERSION]), messages.Welcome, timeout=timeout
        ).message
        self.knows(welcome)
        return welcome

    def knows(self, welcome: Welcome) -> None:
        """Take over what the `hello` of another connection to the same engine was told; of events it is told there."""
        self._most_offered = welcome.limits.get("offered_blobs", 0)

    def ping(self, timeout: float = 5.0) -> float:
        """Seconds until the engine's I/O process answers; whatever its worker does, that should be few milliseconds."""
        start = time.monotonic()
        self._ask(messages.Ping(), messages.Pong, timeout=timeout)
        return time.monotonic() - start

    def held(self) -> tuple[int, int]:
        """Bytes that the engine's worker holds of the computer's memory and of the device's own."""
        answer = self._ask(messages.Ping(), messages.Pong).message
        return answer.memory, answer.device_memory

    def rest(self) -> None:
        """Have the engine free all memory that its worker holds; refused with `at-work` while a job runs."""
        self._ask(messages.Rest(), messages.Noted)

    def submit(
        self,
        job_id: str,
        settings: EditSettings,
        frames: Sequence[Path],
        fps: float = 24.0,
        on_sent: Report | None = None,
        *,
        task: Task = "edit",
        own_masks: Sequence[Path] = (),
        project: str = "",
        priority: int = 0,
        tuning: Tuning | None = None,
        before_digest: Callable[[], None] | None = None,
    ) -> JobStatus:
        """Have the PNG files `frames` edited as job `job_id` (letters, digits, `-` and `_`); returns once it is queued.

        `task`: `masks` for those of the source prompt's words, without an edit; `tune` for a model that is tuned on the
        clip as `tuning` says, whose name is the done job's `model`. `own_masks`: a PNG file for each frame,
        where the settings use them. A client's projects share the engine alike; `priority` (-10 to 10) counts among the
        jobs of one. `before_digest` is called before each file is read for its name: it may wait, or raise to give up.
        Only files that the engine lacks are uploaded. Repeating it is harmless: the same job is found
        again. What is refused: `bad-settings`, `over-limit`, `job-differs` (that id has other frames or settings),
        `queue-full`, `disk-full` (the engine's), `cannot-read` (a frame's file), `unknown-task`; of a tuning also
        `bad-name` and `name-taken`, before anything is uploaded.
        """
        if len(frames) > limits.MAX_FRAMES:
            raise limits.over_limit("frames in one job", len(frames), limits.MAX_FRAMES, "Edit a shorter strip.")
        digests, masks = ([_digest(path, before_digest) for path in paths] for paths in (frames, own_masks))
        paths = dict(zip([*digests, *masks], [*frames, *own_masks]))
        request = messages.Submit(
            job_id=job_id, settings=settings, frames=digests, fps=fps, task=task, own_masks=masks, project=project,
            priority=priority, tuning=tuning,
        )  # fmt: skip
        for _ in range(MAX_ROUNDS):
            try:
                answer = self._ask(request, messages.Job, messages.Wanted).message
            except ProtocolError as error:
                if (
                    error.code == "malformed" and "$.task" in error.sentence
                ):  # which names the field that it cannot read
                    raise _too_old(task) from error
                raise
            if isinstance(answer, messages.Job):
                self._check_task(answer.status, task)
                return answer.status
            if not paths.keys() >= {missing.blob for missing in answer.missing}:
                raise nonsense()
            self._upload(answer.missing, paths, on_sent)
        raise ProtocolError(
            "store-full", "The engine does not keep the frames that it is sent.", "Make room on the engine's disk."
        )

    def send_ahead(self, frames: Sequence[Path], still_wanted: Callable[[], None] = lambda: None) -> bool:
        """Upload those of `frames` that the engine lacks, for a job that is submitted when further ones are there.

        False where the engine is too old for that: `submit` sends everything then. `still_wanted` is called after every
        chunk, and may raise. Refused as the uploads of `submit` are.
        """
        if not self._most_offered:
            return False
        paths = {files.digest(path): path for path in frames}
        names = list(paths)
        for first in range(0, len(names), self._most_offered):
            offer = messages.Offer(blobs=names[first : first + self._most_offered])
            missing = self._ask(offer, messages.Wanted).message.missing
            if not set(offer.blobs) >= {wanted.blob for wanted in missing}:
                raise nonsense()
            for _ in self._transfer(_chunks(missing, paths), messages.Stored):
                still_wanted()
        return True

    def status(self, job_id: str, preview: bool = False) -> JobStatus:
        """How the job stands, with its notes and blobs; refused with `no-such-job`.

        `preview`: also have the engine push the job's next preview, which `previews` gives then.
        """
        return self._ask(messages.Query(job_id=job_id, preview=preview), messages.Job).message.status

    def written(self, job_id: str, first: int) -> list[str]:
        """Names of a running job's frames that are made, from number `first` on, from 0: a few, so ask again."""
        status = self._ask(messages.Query(job_id=job_id, frames_from=first), messages.Job).message.status
        return status.frames if status.state == "running" else []

    def fetch_ahead(self, blobs: Sequence[str], folder: Path, still_wanted: Callable[[], None] = lambda: None) -> None:
        """Fetch blobs into files of their names in `folder`, for `fetch` to find there when the job is done.

        `still_wanted` is called after every piece, and may raise. Refused as `fetch` is.
        """
        for _ in self._download({blob: [folder / blob] for blob in blobs}, still_wanted):
            pass

    def jobs(self) -> list[JobStatus]:
        """The engine's newest jobs, oldest first, without their notes and blobs."""
        return self._ask(messages.QueryAll(), messages.Jobs).message.statuses

    def cancel(self, job_id: str) -> JobStatus:
        """End the job: at once where it waits, at its next denoising step where it runs. Harmless when repeated."""
        return self._ask(messages.Cancel(job_id=job_id), messages.Job).message.status

    def pause(self, job_id: str) -> JobStatus:
        """Leave the job until `resume`; one that runs stops at its next denoising step. One that has ended stays so."""
        return self._ask(messages.Pause(job_id=job_id), messages.Job).message.status

    def resume(self, job_id: str) -> JobStatus:
        """Queue a paused job again; it goes on where it stopped."""
        return self._ask(messages.Resume(job_id=job_id), messages.Job).message.status

    def retry(self, job_id: str) -> JobStatus:
        """Queue a job again that failed or was cancelled, or whose result the engine no longer has."""
        return self._ask(messages.Retry(job_id=job_id), messages.Job).message.status

    def move(self, job_id: str, before: str | None = None) -> JobStatus:
        """Have a waiting job run just before another one, or last of all of this client's."""
        return self._ask(messages.Move(job_id=job_id, before=before), messages.Job).message.status

    def taken(self, job_id: str) -> JobStatus:
        """Say that the job's result is safe here; the engine keeps it until then, and for a time after that."""
        return self._ask(messages.Taken(job_id=job_id), messages.Job).message.status

    def forget(self, job_id: str) -> None:
        """End the job if need be, and have the engine drop it with its result."""
        self._ask(messages.Forget(job_id=job_id), messages.Noted)

    def when_alone(self, ends: Ends) -> None:
        """Say when a local engine shall end once no program is connected to it; refused by a remote one."""
        self._ask(messages.WhenAlone(ends=ends), messages.Noted)

    def events(self) -> list[JobStatus]:
        """Statuses pushed since the last call, without notes and blobs. Hints only: some may be missing. Never blocks."""
        self._line.gather()
        events = list(self._line.events)
        self._line.events.clear()
        return events

    def previews(self) -> list[tuple[Preview, tuple[bytes, ...]]]:
        """What has been pushed since the last call: which frames of which job, and a PNG file of each. Never blocks."""
        self._line.gather()
        packets = list(self._line.previews)
        self._line.previews.clear()
        return [
            (packet.message, packet.buffers) for packet in packets if len(packet.buffers) == len(packet.message.frames)
        ]

    def fetch(
        self, job_id: str, folder: Path, on_received: Report | None = None, *, ahead: Path | None = None
    ) -> Fetched:
        """Write a finished job's result below `folder`: `frames/00001.png`…, `masks/<word>/00001.png`… and
        `packs/00001.pack`….

        A file is there whole and verified or not at all; files that are there already are not fetched again, nor those
        that `fetch_ahead` has brought into the folder `ahead` and that have the right bytes. Refused:
        `no-such-job`, `not-done`, `no-such-blob`, `cannot-write` and `disk-full` (here).
        """
        status = self.status(job_id)
        if status.state != "done":
            raise ProtocolError(
                "not-done", f"Job {job_id} is {status.state}, so it has no result.", "Fetch it when it is done."
            )
        fetched = files.plan(status, folder)
        wanted = list(fetched.pairs(status))
        lacking: dict[str, list[Path]] = {}
        there = 0
        for blob, path in wanted:
            if files.has(path, blob):
                there += 1
            elif ahead and files.take(ahead / blob, blob, path):
                there += 1
                if on_received:
                    on_received(there, len(wanted))
            else:
                lacking.setdefault(blob, []).append(path)
        for paths in self._download(lacking):
            if on_received:
                on_received(there, len(wanted))
            there += len(paths)
        if on_received:
            on_received(len(wanted), len(wanted))
        return fetched

    def shutdown(self, timeout: float = 5.0) -> None:
        """Ask a local engine to end; jobs that wait or run go on with the next one."""
        self._ask(messages.Shutdown(), messages.Stopping, timeout=timeout)

    def _check_task(self, status: JobStatus, task: Task) -> None:
        """An engine from before there were tasks takes any for an edit: have it drop that."""
        if status.task != task:
            self.forget(status.job_id)
            raise _too_old(task)

    def _upload(self, missing: Sequence[messages.Missing], paths: dict[str, Path], on_sent: Report | None) -> None:
        done = len(paths) - len(missing)
        todo = _chunks(missing, paths)
        if on_sent:
            on_sent(done, len(paths))
        for request, answer in self._transfer(todo, messages.Stored):
            upload = request.message
            if upload.offset + limits.CHUNK_BYTES >= upload.size and answer.message.received == upload.size:
                done += 1
                if on_sent:
                    on_sent(done, len(paths))

    def _download(
        self, lacking: dict[str, list[Path]], still_wanted: Callable[[], None] = lambda: None
    ) -> Iterator[list[Path]]:
        """Fetch blobs, each into the files that want it, and yield these as they are complete.

        A blob that was cut off before goes on where it was; where that is beyond its end, all begin anew.
        """
        lacking = dict(lacking)
        try:
            yield from self._go_on(lacking, still_wanted)
        except ProtocolError as error:
            if not (error.refused and error.code == "malformed"):
                raise
            if not sum(files.start_anew(paths[0], blob) for blob, paths in lacking.items()):
                raise
            yield from self._go_on(lacking, still_wanted)

    def _go_on(self, lacking: dict[str, list[Path]], still_wanted: Callable[[], None]) -> Iterator[list[Path]]:
        """The same once; what is complete is lacking no more."""
        todo = deque(
            Request(messages.Read(blob=blob, offset=files.received(paths[0], blob))) for blob, paths in lacking.items()
        )
        downloads: dict[str, Download] = {}
        try:
            for request, answer in self._transfer(todo, messages.Piece):
                blob, piece = request.message.blob, answer.message
                if piece.size > limits.MAX_BLOB_BYTES or len(answer.buffers) != 1 or blob not in lacking:
                    raise nonsense()
                if blob not in downloads:
                    downloads[blob] = Download(lacking[blob][0], blob)
                    rest = range(request.message.offset + limits.CHUNK_BYTES, piece.size, limits.CHUNK_BYTES)
                    todo.extendleft(Request(messages.Read(blob=blob, offset=at)) for at in reversed(rest))
                downloads[blob].add(request.message.offset, answer.buffers[0])
                still_wanted()
                if downloads[blob].received >= piece.size:
                    downloads.pop(blob).finish(lacking[blob])
                    yield lacking.pop(blob)
        finally:
            for download in downloads.values():
                download.close()

    def _ask(self, message: messages.Message, *answers: type, timeout: float = PATIENCE) -> wire.Packet:
        """Send a request, again if need be, and wait for one of `answers`; a `Refusal` is raised."""
        todo = deque([Request(message)])
        ((_, answer),) = self._line.exchange(todo, *answers, timeout=timeout, repeat_after=REPEAT_AFTER)
        return answer

    def _transfer(self, todo: deque[Request], answer: type) -> Iterator[tuple[Request, wire.Packet]]:
        return self._line.exchange(todo, answer, timeout=TRANSFER_PATIENCE, repeat_after=TRANSFER_REPEAT_AFTER)


def _chunks(missing: Sequence[messages.Missing], paths: dict[str, Path]) -> deque[Request]:
    """What has to be uploaded of the blobs' files."""
    todo: deque[Request] = deque()
    for wanted in missing:
        path = paths[wanted.blob]
        size = files.size(path)
        todo.extend(
            Request(messages.Upload(blob=wanted.blob, size=size, offset=offset), partial(files.chunk, path, offset))
            for offset in range(wanted.offset, size, limits.CHUNK_BYTES)
        )
    return todo


def _digest(path: Path, before: Callable[[], None] | None) -> str:
    if before:
        before()
    return files.digest(path)


def _too_old(task: Task) -> ProtocolError:
    what = "tune a model on a clip" if task == "tune" else "find masks without an edit"
    return ProtocolError("unknown-task", f"The engine is too old to {what}.", "Update the engine.")
