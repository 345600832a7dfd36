"""`python -m engine render JOB.json`: one whole shot as one task of a render farm, without Blender and without a server.

It goes on where an ended run has stopped, on this machine or another, and says how far it is as JSON, an object a line.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from protocol import endpoint, farm_job, models
from protocol.errors import ProtocolError
from protocol.farm_job import FarmJob
from protocol.files import slug

from .. import __version__
from ..errors import EditError
from . import count

DONE, FAULT, UNREADABLE_JOB, REFUSED, TRY_AGAIN, STOPPED = 0, 1, 2, 3, 4, 130
EXIT_CODES = {
    DONE: "the result is there, also where it was before",
    FAULT: "a fault in the engine: see stderr, and report it",
    UNREADABLE_JOB: "the job file or the command line makes no sense",
    REFUSED: "no machine can do this job: its frames, settings or model are wrong",
    TRY_AGAIN: "this machine cannot do it now: memory, disk, device or a missing installation; another one may",
    STOPPED: "it was told to stop (SIGINT, SIGTERM); the same command goes on",
}
"""What a farm may go by."""
OF_THIS_MACHINE = (
    "memory", "out-of-memory", "disk-full", "cannot-write", "cannot-read", "device", "unknown-model",
    "engine-incomplete",
)  # fmt: skip
SAY_EVERY = 0.5
"""Seconds between two lines of progress within a stage."""


def main(argv: Sequence[str]) -> int:
    """Render a shot; returns one of `EXIT_CODES`."""
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog="python -m engine render",
        description="Edit one shot as one task of a render farm.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job", type=Path, metavar="JOB.json", help="as the add-on's Send to Farm writes it")
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu, or auto (%(default)s)")
    parser.add_argument("--threads", type=count, help="CPU threads (all cores)")
    parser.add_argument(
        "--home", type=Path, default=endpoint.default_home(), help="what models' names mean is known here (%(default)s)"
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    say = Teller()
    try:
        try:
            job = farm_job.read(options.job)
        except ProtocolError as error:
            say.failed(error)
            return UNREADABLE_JOB
        Shot(job, options, say).render()
    except (EditError, ProtocolError) as error:
        say.failed(error)
        return TRY_AGAIN if error.code in OF_THIS_MACHINE else REFUSED
    except OSError as error:
        say.failed(EditError("cannot-write", f"{error.filename or 'A file'}: {error.strerror or error}."))
        return TRY_AGAIN
    except ImportError as error:
        say.failed(EditError("engine-incomplete", f"The engine is not installed whole ({error}).", "Install it again."))
        return TRY_AGAIN
    except KeyboardInterrupt:
        say.line("stopped")
        return STOPPED
    return DONE


class Teller:
    """Says what happens, a JSON object a line: `event`, and facts."""

    def __init__(self):
        self._stage, self._said = "", 0.0

    def line(self, event: str, **facts) -> None:
        """One line, at once."""
        print(json.dumps({"event": event, **facts}, ensure_ascii=False), flush=True)

    def progress(self, progress) -> None:
        """How far the edit is, not too often."""
        now = time.monotonic()
        if progress.stage == self._stage and now - self._said < SAY_EVERY and progress.fraction < 1.0:
            return
        self._stage, self._said = progress.stage, now
        facts = {"stage": progress.stage, "step": progress.step, "steps": progress.steps}
        self.line("progress", **facts, fraction=round(progress.fraction, 4))

    def failed(self, error: EditError | ProtocolError) -> None:
        """Why there is no result."""
        self.line("failed", code=error.code, sentence=error.sentence, remedy=error.remedy)


class Shot:
    """One job file's frames on their way to its result."""

    def __init__(self, job: FarmJob, options: argparse.Namespace, say: Teller):
        folder = options.job.absolute().parent
        self._job, self._options, self._say = job, options, say
        self._frames, self._out = folder / job.frames, folder / job.out
        self._work = self._out.with_name(f"{self._out.name}.work")
        """What it goes on from; removed once the result is there."""

    def render(self) -> None:
        """Do what is not done yet; `EditError`, `ProtocolError` or `OSError` where that is impossible."""
        job, say = self._job, self._say
        paths = farm_job.frames_of(self._frames)
        digest = self._digest(paths)
        if self._is_there(digest):
            say.line("done", frames=len(paths), out=str(self._out), again=True)
            return
        self._check_out()
        say.line("began", name=job.name, frames=len(paths), resumed=self._work.is_dir())
        from ..editing import Editor, Keep
        from ..service.frames import StoredClip

        if self._options.threads:
            import torch

            torch.set_num_threads(self._options.threads)
        clip = NamedClip(StoredClip(paths), digest)
        editor = Editor.load(self._model(), self._options.device, job.settings.precision, self._options.home)
        half = self._work / f"half-{uuid.uuid4().hex}"
        self._remove_halves()
        keep = Keep(self._work / "cache", self._work / "job")
        result = editor.edit(clip, job.settings, say.progress, keep=keep, write=_Writer(half, job.settings.mask_words))
        for note in result.notes:
            say.line("note", text=note)
        record = {"job": digest, "engine": __version__, "notes": result.notes}
        (half / farm_job.RECORD_NAME).write_text(json.dumps(record), encoding="utf-8")
        if self._out.exists():  # of another version of the job
            shutil.rmtree(self._out)
        os.replace(half, self._out)
        shutil.rmtree(self._work, ignore_errors=True)
        say.line("done", frames=len(paths), out=str(self._out), again=False)

    def _check_out(self) -> None:
        """`EditError` where something other than a result would have to make room for this one."""
        out = self._out
        if out.exists() and not (out.is_dir() and ((out / farm_job.RECORD_NAME).is_file() or not any(out.iterdir()))):
            raise EditError(
                "exists", f"'{out}' has files that are no result of an edit.", "Name another folder as 'out'."
            )

    def _model(self) -> models.Model | str:
        """What the job's model is on this machine; a path is taken as it is."""
        name, home = self._job.settings.model, self._options.home
        return name if Path(name).exists() and name not in models.known(home) else models.resolve(home, name)

    def _digest(self, paths: Sequence[Path]) -> str:
        """All that decides the result, but for the model's own files."""
        whole = hashlib.sha256(msgspec.json.encode(self._job.settings))
        for path in paths:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def _is_there(self, digest: str) -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((self._out / farm_job.RECORD_NAME).read_bytes())["job"] == digest
        return False

    def _remove_halves(self) -> None:
        for folder in self._work.glob("half-*"):
            shutil.rmtree(folder, ignore_errors=True)


class NamedClip:
    """A clip under the digest of its frames' bytes: their names say nothing of them here."""

    def __init__(self, clip, digest: str):
        self._clip, self.shape, self.digest = clip, clip.shape, digest

    def __getitem__(self, part):
        return self._clip[part]


class _Writer:
    """Takes edited frames and masks into files, numbered from 1."""

    def __init__(self, folder: Path, words: Sequence[str]):
        self._frames, self._masks = folder / "frames", {}
        for word in words:
            name = slug(word, [path.name for path in self._masks.values()])
            self._masks[word] = folder / "masks" / name

    def __call__(self, start: int, frames, masks) -> None:
        from ..service.frames import encode

        chosen = [(folder, masks[word]) for word, folder in self._masks.items()]
        for folder, pictures in [(self._frames, frames), *chosen]:
            folder.mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(pictures, start=start + 1):
                with open(folder / f"{number:05}.png", "wb") as file:
                    file.write(encode(picture))
                    file.flush()
                    os.fsync(file.fileno())


def _stop(*_) -> None:
    raise KeyboardInterrupt
