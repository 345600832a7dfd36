"""The worker process: torch lives here. It does one job at a time and ends when its stdin does."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from engine.errors import EditError
from engine.fatezero.keys import several_anchors
from engine.parts import computed, steady_reach
from protocol import models
from protocol.errors import ProtocolError
from protocol.settings import asks_for_picture_words

from . import divided, logs, pipes
from .store import Store, verified

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """Raised inside an edit to end it as the user asked."""


class Stopwatch:
    """Seconds that each stage of a job takes."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._stage, self._since = None, 0.0

    def enter(self, stage: str | None) -> None:
        """Begin `stage`, which ends the one before; None ends it only."""
        now = time.monotonic()
        if self._stage is not None and stage != self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        if stage != self._stage:
            self._stage, self._since = stage, now


class WorkerProcess:
    """Takes work from one pipe and reports on another; keeps the last model loaded."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, home: Path, name: str, device: str):
        self._incoming, self._outgoing, self._home, self._device = incoming, outgoing, home, device
        self._store = Store(home, name)
        self._work: queue.SimpleQueue[pipes.Work] = queue.SimpleQueue()
        self._stopped_job = ""
        self._editor_key, self._editor = None, None

    def run(self) -> None:
        """Work until the process is ended."""
        threading.Thread(target=self._listen, daemon=True).start()
        with contextlib.suppress(ImportError):  # which the first job will say
            import engine.editing  # noqa: F401  seconds of loading that need not wait for a job
        while True:
            work = self._work.get()
            pipes.write(self._outgoing, self._answer(work))
            if self._editor:
                self._editor.release_memory()  # Blender and others want the GPU too
            held = self._editor.held_memory() if self._editor else 0
            pipes.write(self._outgoing, pipes.Holds(device_memory=held))

    def _listen(self) -> None:
        """Take in messages beside the edit; once the server is gone, so is this process, whatever it is doing."""
        try:
            while (message := pipes.read(self._incoming)) is not None:
                if isinstance(message, pipes.Stop):
                    self._stopped_job = message.job_id
                else:
                    self._stopped_job = ""  # a job that was stopped before may come again
                    self._work.put(message)
        finally:
            os._exit(0)

    def _answer(self, work: pipes.Work) -> pipes.Finished | pipes.Failed | pipes.Stopped:
        try:
            return {"edit": self._edit, "masks": self._find_masks, "tune": self._tune}[work.task](work)
        except JobStopped:
            return pipes.Stopped(job_id=work.job_id)
        except (EditError, ProtocolError) as error:
            return pipes.Failed(job_id=work.job_id, code=error.code, sentence=error.sentence, remedy=error.remedy)
        except MemoryError:
            return pipes.Failed(
                job_id=work.job_id,
                code="out-of-memory",
                sentence="The clip does not fit into the engine's memory.",
                remedy="Use fewer or smaller frames.",
            )
        except ImportError as error:
            log.exception("job %s failed", work.job_id)
            return pipes.Failed(
                job_id=work.job_id,
                code="engine-incomplete",
                sentence=f"The engine is not installed whole ({error}).",
                remedy="Install the engine again.",
            )
        except Exception as error:
            log.exception("job %s failed", work.job_id)
            return pipes.Failed(
                job_id=work.job_id,
                code="engine-error",
                sentence=f"The edit failed inside the engine ({type(error).__name__}: {error}).",
                remedy="Please report this with the engine's logs/worker.log.",
            )

    def _reporter(self, work: pipes.Work, clock: Stopwatch):
        """Passes on how far the job has come, and ends it where that was asked for."""

        def report(progress, loss: float | None = None) -> None:
            clock.enter(progress.stage)
            pipes.write(
                self._outgoing,
                pipes.Reported(
                    job_id=work.job_id,
                    stage=progress.stage,
                    step=progress.step,
                    steps=progress.steps,
                    fraction=min(1.0, max(0.0, progress.fraction)),
                    loss=loss,
                ),
            )
            if self._stopped_job == work.job_id:
                raise JobStopped

        return report

    def _edit(self, work: pipes.Work) -> pipes.Finished:
        from engine.editing import Progress
        from engine.keeping import key_of

        from . import frames
        from .results import Results

        clock = Stopwatch()
        report = self._reporter(work, clock)
        if work.part:
            report(Progress("load", 0, 1, 0.0))
            checkpoint = self._loaded_editor(work).checkpoint
            made_by = key_of(checkpoint=checkpoint.files.digest(self._keep(work).digests))
            if done := divided.kept(self._home, work, made_by, self._store):
                return done
            clip = self._clip_of_parts(work, report)
        else:
            clip = frames.StoredClip(self._verified(work.owner, work.frames, report))
        own_masks = None
        if work.own_masks:
            _, height, width, _ = clip.shape
            own_masks = frames.StoredMasks(self._verified(work.owner, work.own_masks, report), (width, height))
        report(Progress("load", 0, 1, 0.0))
        results = Results(self._store, work.owner)

        def write(_start, edited, masks) -> None:
            clock.enter("write")
            names = results.add(edited, masks)
            if work.part is None:
                pipes.write(self._outgoing, pipes.Written(job_id=work.job_id, frames=names))

        result = self._loaded_editor(work).edit(
            clip,
            work.settings,
            report,
            keep=self._keep(work),
            write=write,
            memory_share=work.memory_share,
            own_masks=own_masks,
            # Of a clip in parts the first one is seen: several at once would take each other's place.
            preview=None if work.part and work.part.first else self._shower(work),
            part=work.part,
        )
        clock.enter(None)
        finished = results.finished(work.job_id, result, clock.seconds)
        if work.part:
            divided.keep(self._home, work, made_by, finished)
        return finished

    def _clip_of_parts(self, work: pipes.Work, report):
        """The whole clip, of which only those frames are verified that the part needs; with its cuts, where these count."""
        from . import cuts, frames

        settings, count, served = work.settings, len(work.frames), ()
        verified_now: set[int] = set()

        def verify(some: Iterable[int]) -> list[Path]:
            new = [index for index in some if index not in verified_now]
            verified_now.update(new)
            return self._verified(work.owner, work.frames, report, new)

        paths = verify(range(work.part.first, work.part.end))
        try:
            clip = frames.StoredClip(paths)
        except EditError:
            verify(range(count))  # which says so, and drops it, where the disk has damaged a frame
            raise
        if settings.anchor_cuts:
            clip.cuts = cuts.found_together(divided.folder_of_whole(self._home, work), clip, work.part, verify)
        if len(settings.keys) == 1:
            served = several_anchors(settings.keys[0], count, clip.cuts or (), settings.anchor_every)
        middle = asks_for_picture_words(settings)
        verify(computed(work.part, count, settings.keys, served, steady_reach(settings.steady), middle))
        return clip

    def _find_masks(self, work: pipes.Work) -> pipes.Finished:
        from engine.editing import Progress

        from . import frames
        from .results import Results

        clock = Stopwatch()
        report = self._reporter(work, clock)
        clip = frames.StoredClip(self._verified(work.owner, work.frames, report))
        report(Progress("load", 0, 1, 0.0))
        results = Results(self._store, work.owner)

        def write(_start, masks) -> None:
            clock.enter("write")
            results.add((), masks)

        result = self._loaded_editor(work).survey(
            clip, work.settings, report, write=write, keep=self._keep(work), memory_share=work.memory_share
        )
        clock.enter(None)
        return results.finished(work.job_id, result, clock.seconds)

    def _tune(self, work: pipes.Work) -> pipes.Finished:
        from engine.devices import choose_device
        from engine.editing import Progress

        from . import frames, tuner

        clock = Stopwatch()
        report = self._reporter(work, clock)
        clip = frames.StoredClip(self._verified(work.owner, work.frames, report))
        report(Progress("load", 0, 1, 0.0))
        self._editor_key, self._editor = None, None  # a tuning needs the room, and loads the model by itself
        pipes.write(self._outgoing, pipes.Ready(device=str(choose_device(self._device))))

        def tell(step: int, steps: int, fraction: float, loss: float) -> None:
            report(Progress("tune", step, steps, fraction), loss)

        notes = tuner.run(self._home, work, clip, self._device, tell, self._shower(work))
        clock.enter(None)
        return pipes.Finished(job_id=work.job_id, frames=[], masks={}, notes=notes, timings=clock.seconds)

    def _shower(self, work: pipes.Work):
        """Passes on what the work looks like."""
        from . import frames

        def show(preview) -> None:
            pipes.write(
                self._outgoing,
                pipes.Previewed(
                    job_id=work.job_id,
                    step=preview.step,
                    steps=preview.steps,
                    frames=preview.frames,
                    pictures=[frames.encode(picture) for picture in preview.pictures],
                ),
            )

        return show

    def _keep(self, work: pipes.Work):
        from engine.editing import Keep

        return Keep(self._home / "cache", divided.folder_of(self._home, work))

    def _verified(self, owner: str, names: list[str], report, needed: Iterable[int] | None = None) -> list[Path]:
        """Files of the job; those that this worker needs, or else all, are verified.

        One that the disk has damaged is dropped, so that it is asked for again.
        """
        from engine.editing import Progress

        paths = [self._store.path(owner, name) for name in names]
        for index in range(len(paths)) if needed is None else needed:
            path = paths[index]
            report(Progress("read", index, len(paths), 0.0))
            try:
                with open(path, "rb") as file:
                    whole = verified(file, path.name)
            except OSError:
                whole = False
            if not whole:
                self._store.remove(owner, path.name)
                raise EditError(
                    "frame-damaged",
                    f"Frame {index + 1} was damaged or lost on the engine's disk.",
                    "Edit the strip again, which sends it once more.",
                )
        return paths

    def _loaded_editor(self, work: pipes.Work):
        from engine.editing import Editor

        model = models.resolve(self._home, work.settings.model)
        key = (model, work.settings.precision)
        if self._editor_key != key or not self._editor.checkpoint.files.unchanged():
            self._editor_key, self._editor = None, None  # one model in memory at a time
            self._editor = Editor.load(model, self._device, work.settings.precision, self._home)
            self._editor_key = key
            pipes.write(self._outgoing, pipes.Ready(device=str(self._editor.unet.device)))
        return self._editor


def _end_with_server() -> None:
    """Have Linux end this process with the server, for a worker that hangs in native code cannot notice it itself."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main(argv: list[str] | None = None) -> None:
    """Be a worker: messages on stdin and stdout, everything that libraries print on stderr."""
    parser = argparse.ArgumentParser(prog="engine.service.worker", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format=logs.PLAIN, stream=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    _end_with_server()
    incoming = os.fdopen(os.dup(0), "rb")
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    worker = WorkerProcess(incoming, outgoing, options.home, options.name, options.device)
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    worker.run()


if __name__ == "__main__":
    sys.exit(main())
