"""Edits and tunings that a test may kill: `python -m tests.engine.killable CHECKPOINT`, and the test's handle on that process.

It loads the checkpoint once, forks for every job that a line on stdin asks for, and says on stdout how far it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


class Killable:
    """Edits and tunings in processes of their own."""

    def __init__(self, checkpoint: Path):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.killable", str(checkpoint)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self._hear() == "ready"

    def edit(self, settings: dict, *, kill_after: int | None = None, **job) -> tuple[list[dict], int]:
        """The reports of an edit and its exit status, negative where it was killed after so many of them."""
        return self._run({"kind": "edit", "settings": settings, **job}, kill_after)

    def tune(self, settings: dict, *, kill_after: int | None = None, **job) -> tuple[list[dict], int]:
        """The same of a tuning of the checkpoint."""
        return self._run({"kind": "tune", "settings": settings, **job}, kill_after)

    def _run(self, job: dict, kill_after: int | None) -> tuple[list[dict], int]:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        pid, reports = self._hear(), []
        while isinstance(heard := self._hear(), dict):
            reports.append(heard)
            if len(reports) == kill_after:
                time.sleep(random.random() * 0.05)  # anywhere in what comes next
                with contextlib.suppress(ProcessLookupError):  # where it has ended meanwhile
                    os.kill(pid, signal.SIGKILL)
        return reports, heard

    def end(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(60) == 0

    def _hear(self):
        line = self._process.stdout.readline()
        assert line, "the process that edits has ended"
        return json.loads(line)


def main(checkpoint: str) -> None:
    import torch

    from engine.editing import Editor

    torch.set_num_threads(1)
    editor = Editor.load(checkpoint, "cpu", "float32")
    _say("ready")
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            _say(os.getpid())
            os._exit(_edit(editor, job) if job["kind"] == "edit" else _tune(checkpoint, job))
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


def _edit(editor, job: dict) -> int:
    from engine.editing import Keep, Progress
    from protocol.settings import apply_preset

    def report(progress: Progress) -> None:
        _say({"stage": progress.stage, "step": progress.step, "fraction": progress.fraction})

    keep = Keep(Path(job["folder"], "cache"), Path(job["folder"], "job"))
    result = editor.edit(np.load(job["clip"]), apply_preset(**job["settings"]), report, keep=keep)
    np.save(job["out"], result.frames)
    return 0


def _tune(checkpoint: str, job: dict) -> int:
    from engine.tuning.tune import TuneProgress, TuneSettings, tune

    def report(progress: TuneProgress) -> None:
        _say({"step": progress.step, "loss": progress.loss})

    settings, out = TuneSettings(**job["settings"]), Path(job["out"])
    tune(checkpoint, np.load(job["clip"]), settings, out, report, device="cpu", keep_every=job["keep_every"])
    return 0


def _say(what) -> None:
    os.write(1, (json.dumps(what) + "\n").encode())  # at once: whole, however it ends


if __name__ == "__main__":
    main(sys.argv[1])
