"""Every message between Blender's add-on and the engine, and the one decoder for them all.

Requests carry a number and their answer carries the same one. A request may be repeated: what it asks for is then
found done. Frames travel as blobs: files' bytes, named by their SHA-256.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from . import limits
from .settings import EditSettings
from .tuning import Tuning

BlobName = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z", description="SHA-256 of the bytes, in hex")]
JobId = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z", description="chosen by the client")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
FramesPerSecond = Annotated[float, msgspec.Meta(gt=0, le=limits.MAX_FPS)]
ProjectName = Annotated[str, msgspec.Meta(max_length=limits.MAX_PROJECT_CHARACTERS)]
Priority = Annotated[int, msgspec.Meta(ge=-10, le=10)]
ClientName = Annotated[str, msgspec.Meta(max_length=200)]

FINAL_STATES = ("done", "failed", "cancelled")
Ends = Literal["at-once", "after-queue", "never"]
"""When a local engine ends that no program is connected to any more."""
Task = Literal["edit", "masks", "tune"]
"""What a job is to make: edited frames, only the masks of the source prompt's words, or a model that is tuned on the clip."""


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed: `code` for programs, `sentence` and `remedy` (may be empty) for people."""

    code: str
    sentence: str
    remedy: str = ""


class WordSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model sees of one word of the source prompt."""

    word: str
    tokens: int
    """Tokens that the text encoder gets of it; none where the whole word is beyond what the encoder takes."""
    cut: bool = False
    """It is beyond what the encoder takes, whole or in part."""
    in_pieces: bool = False
    """The tokenizer has no such word, and spells it in several tokens: a hint that the model may not know it."""


class SoftMask(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a job's soft masks one is."""

    word: str
    """Of `blend`: all blend words, parted by spaces."""
    kind: Literal["word", "blend"]
    """Where the source's attention sees a `word`; or the `blend` mask, how much of the edit each place has taken."""
    index: int = -1
    """Where the word first stands in the source prompt, from 0; of `blend`: -1."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a job stands. In lists and events all that may be long is left empty: ask for the job itself."""

    job_id: JobId
    task: Task = "edit"
    state: str
    """`queued`, `running`, `paused`, `done`, `failed` or `cancelled`."""
    ahead: int = 0
    """While it is queued: the client's own jobs that come before it, the running one included."""
    stage: str = ""
    """While it runs: `read`, `load`, `encode`, `invert`, `edit`, `tune`, `decode` or `write`."""
    step: int = 0
    steps: int = 0
    """Of the stage."""
    fraction: float = 0.0
    """Of the whole job, 0 to 1."""
    seconds_left: float | None = None
    error: Failure | None = None
    notes: list[str] = []
    """Sentences for the user about the result, such as which words of a prompt were cut."""
    frames: list[BlobName] = []
    """The edited frames in order, once the job is done; while it runs, those that `Query` has asked for."""
    written: int = 0
    """While it runs in one part: the edited frames, from the first on, that are made and will not change."""
    masks: dict[str, list[BlobName]] = {}
    """For each mask word, one mask per frame, once the job is done."""
    words: list[WordSeen] = []
    """The source prompt's words in order, once the job is done."""
    soft_masks: list[SoftMask] = []
    """What each of `packs` holds, in order: every word that the model sees, of `masks`; of `edit` the mask words, and
    the blend mask where there was one."""
    packs: list[BlobName] = []
    """For each frame its soft masks: small grey PNG files one behind the other (see `packs.split`), in the frame's aspect.
    A word's grey is 255 at its strongest place of the frame, and more than `255 * threshold` is its mask."""
    timings: dict[str, float] = {}
    """Seconds that each stage took, once the job is done."""
    loss: float | None = None
    """While it tunes: the training's error, the mean of its last steps."""
    model: str = ""
    """The name of the model that a tuning has made, once the job is done."""
    workers: int = 0
    """While it runs: how many have a part of it."""
    waits: str = ""
    """While it is queued: what it waits for beside its turn, in a sentence."""
    taken: bool = False
    """The client has said that it has the result: from then on the engine may drop it."""

    @property
    def final(self) -> bool:
        """Whether the job has ended, one way or another."""
        return self.state in FINAL_STATES

    @property
    def blobs(self) -> list[BlobName]:
        """All blobs of the result."""
        return [*self.frames, *(name for names in self.masks.values() for name in names), *self.packs]

    def brief(self) -> JobStatus:
        """The same without what may be long."""
        return msgspec.structs.replace(self, notes=[], frames=[], masks={}, words=[], soft_masks=[], packs=[])


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name.lower()):
    """What all messages have in common."""

    request: Count = 0
    """Number of the request, or of the one that is answered; 0 where no request could be read."""


class Hello(Message):
    """The client's first message. It, `Welcome` and `Refusal` never change their shape."""

    client: ClientName
    versions: Annotated[list[int], msgspec.Meta(min_length=1, max_length=64)]
    """Protocol versions that the client speaks."""


class Welcome(Message):
    """Answer to `Hello`."""

    version: int
    """The newest protocol version that both sides speak."""
    engine: str
    """The engine's own version."""
    device: str
    """What the worker computes on, `auto` until it is known."""
    models: list[str]
    """Names of the models that may be asked for: the one that the engine brings, and those registered on its machine."""
    limits: dict[str, int]
    from_builtin: list[str] = []
    """Those of `models` that were tuned from the built-in one, and take its presets."""


class Refusal(Message):
    """Answer to a request that cannot be met."""

    code: str
    sentence: str
    remedy: str = ""


class Ping(Message):
    """Is the engine there? Answered at once, whatever the worker does."""


class Pong(Message):
    """Answer to `Ping`: what the engine's worker holds, in bytes, as it was a moment ago."""

    memory: Count = 0
    """Of the computer's memory."""
    device_memory: Count = 0
    """Of the device's own, where it has some; counted when the last job had ended."""


class Submit(Message):
    """Make an edit, the masks of a clip, or a model tuned on it. Answered with `Wanted` while blobs are missing (nothing is kept then), else with `Job`."""

    job_id: JobId
    settings: EditSettings
    frames: Annotated[list[BlobName], msgspec.Meta(min_length=1)]
    fps: FramesPerSecond
    task: Task = "edit"
    """Of `masks` the settings count that decide the inversion: an edit with the same ones begins with it. Of `tune` the
    source prompt and the model count, and `tuning` says the rest."""
    own_masks: list[BlobName] = []
    """For each frame the user's own mask, a PNG file of any size laid over the whole frame, where `settings.own_mask`
    says what it does: white is where the edit may change something."""
    project: ProjectName = ""
    """What it belongs to: a client's projects share its part of the engine alike."""
    priority: Priority = 0
    """Among the jobs of its project; a step goes before 32 earlier jobs, so that none waits for ever."""
    tuning: Tuning | None = None
    """What shall be made, where the task is `tune`."""


class Missing(msgspec.Struct, frozen=True):
    """A blob that the engine lacks from byte `offset` on."""

    blob: BlobName
    offset: Count = 0


class Offer(Message):
    """Which of these blobs does the engine lack? A job is to come that names them, and its frames may be sent while others
    are still made. Answered with `Wanted`.

    What comes so is kept as frames are that no job needs any more. An engine takes it whose `Welcome` has the limit
    `offered_blobs`; an older one does not know it, and is told of the blobs by `Submit`.
    """

    blobs: Annotated[list[BlobName], msgspec.Meta(min_length=1, max_length=limits.MAX_OFFERED_BLOBS)]


class Wanted(Message):
    """Answer to `Submit` and `Offer`: upload these, and submit (again) when all are there."""

    missing: list[Missing]


class Upload(Message):
    """One chunk of a blob of `size` bytes, in the buffer; it belongs at byte `offset`."""

    blob: BlobName
    size: Count
    offset: Count


class Stored(Message):
    """Answer to `Upload`: the engine holds `received` bytes; the next chunk belongs there."""

    blob: BlobName
    received: Count


class Query(Message):
    """How does this job stand? Answered with `Job`."""

    job_id: JobId
    preview: bool = False
    """Also send this connection the job's next `Preview`, if there will be one."""
    frames_from: Count | None = None
    """While the job runs, also name its written frames from this one on, from 0: at most `TRANSFER_WINDOW` of them."""


class Job(Message):
    """A job's whole status."""

    status: JobStatus


class QueryAll(Message):
    """Which jobs are there? Answered with `Jobs`."""


class Jobs(Message):
    """The newest jobs, oldest first, in brief."""

    statuses: list[JobStatus]


class Cancel(Message):
    """End this job; answered with `Job`. A running one ends at its next denoising step, one that has ended stays so."""

    job_id: JobId


class Pause(Message):
    """Leave this job until `Resume`; answered with `Job`. A running one stops at its next denoising step and keeps it."""

    job_id: JobId


class Resume(Message):
    """Queue a paused job again, at its old place; answered with `Job`. It goes on where it stopped."""

    job_id: JobId


class Retry(Message):
    """Queue a job again that failed, was cancelled, or whose result was lost; answered with `Job`."""

    job_id: JobId


class Move(Message):
    """Have a waiting job run just before another one of the client's, or last of them; answered with `Job`."""

    job_id: JobId
    before: JobId | None = None


class Taken(Message):
    """The job's result is safe on the client's disk; answered with `Job`. Until then the engine keeps it."""

    job_id: JobId


class Forget(Message):
    """End this job if need be and drop it with its result; answered with `Noted`, also where there is no such job."""

    job_id: JobId


class WhenAlone(Message):
    """When a local engine shall end that nobody is connected to any more; answered with `Noted`.

    `at-once` (jobs that wait or run go on with the next engine), `after-queue`, or `never`.
    """

    ends: Ends


class Noted(Message):
    """Answer to `Forget`, `WhenAlone` and `Rest`."""


class Read(Message):
    """Give me a blob's bytes from `offset` on; answered with `Piece`."""

    blob: BlobName
    offset: Count


class Piece(Message):
    """At most one chunk of a blob of `size` bytes, in the buffer."""

    blob: BlobName
    size: Count
    offset: Count


class Shutdown(Message):
    """End the engine; answered with `Stopping`. Jobs that wait or run go on with the next engine."""


class Stopping(Message):
    """Answer to `Shutdown`."""


class Event(Message):
    """A job's status changed: a hint, not sent again if it gets lost."""

    status: JobStatus


class Preview(Message):
    """What a running edit looks like, or the clip as a tuning makes it out halfway through the noise: a PNG file in a
    buffer for each of `frames`. A hint, as `Event`.

    It comes once for each `Query` that asked for it, so that a client which lags gets none.
    """

    job_id: JobId
    step: Count
    """Denoising steps that are done, or training steps."""
    steps: Count
    frames: Annotated[list[Count], msgspec.Meta(min_length=1, max_length=limits.MAX_PREVIEW_FRAMES)]
    """Which frames of the clip are shown, from 0."""


class Rest(Message):
    """Free all memory that the worker holds, until the next job; answered with `Noted`. Refused with `at-work` while
    a job runs."""


AnyMessage = (
    Hello | Welcome | Refusal | Ping | Pong | Submit | Wanted | Upload | Stored | Query | Job | QueryAll | Jobs
    | Cancel | Pause | Resume | Retry | Move | Taken | Forget | WhenAlone | Noted | Read | Piece | Shutdown | Stopping
    | Event | Preview | Rest | Offer
)  # fmt: skip

decode = msgspec.msgpack.Decoder(AnyMessage).decode
encode = msgspec.msgpack.Encoder().encode
