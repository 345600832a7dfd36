"""The local engine's checkpoints: listed, added, fetched and removed by its own commands, in a thread without bpy."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .children import Errand
from .protocol import models
from .protocol.settings import BUILTIN_MODEL
from .trouble import Trouble, as_is


@dataclass(frozen=True)
class Checkpoint:
    """One that the engine knows: `size` in bytes; `licence` is empty where none is said."""

    name: str
    path: str
    size: int
    licence: str
    made_here: bool = False
    """Whether a tuning of the engine has made it, so that its files go with its name."""

    @property
    def removable(self) -> bool:
        """Whether it can be forgotten; the one that the engine brings cannot."""
        return self.name != BUILTIN_MODEL


@dataclass(frozen=True)
class Offer:
    """What would be fetched from the hub: `size` in bytes."""

    repository: str
    commit: str
    licence: str
    files: int
    size: int


class Task(Errand):
    """One command, running from the moment it is made. Read `running`, `done`, `total` and `trouble`."""

    def __init__(self, python: Path, home: Path, arguments: tuple):
        super().__init__("FateZero checkpoints")
        self.running = True
        self.done, self.total = 0, 0
        """Bytes, of a download."""
        self.trouble: Trouble | None = None
        self.found: list[Checkpoint] = []
        self.what = arguments[0]
        """`list`, `add`, `remove` or `fetch`."""
        self._command = [python, "-m", "engine", "models", *arguments, "--json", "--home", home]
        self._listing = [python, "-m", "engine", "models", "list", "--json", "--home", home]
        self._added = False
        self._thread.start()

    @property
    def fraction(self) -> float:
        """How much of a download is here."""
        return self.done / self.total if self.total else 0.0

    def _run(self) -> None:
        try:
            self._call(self._command)
            if self.what == "fetch" and self._added:
                _offer(None)
            if self.what != "list" and not self.cancelled:
                self._call(self._listing)
            if self.found:
                _know(self.found)
        except Trouble as trouble:
            self.trouble = None if self.cancelled else trouble
        except OSError as error:
            self.trouble = Trouble(
                "The engine cannot be asked for its checkpoints: {reason}.", "Install it again.", reason=error.strerror
            )
        finally:
            self.running = False

    def _call(self, command: list) -> None:
        if self.cancelled:
            return
        # The bars that libraries draw would come among the lines that are read here.
        self._start(command, os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"})
        last, failure = "", None
        for line in self._child.lines():
            try:
                said = json.loads(line)
            except ValueError:
                last = line.strip() or last
                continue
            if "error" in said:
                failure = as_is(said["error"]["sentence"], said["error"]["remedy"])
            else:
                self._take(said)
        if self._child.wait() or failure:
            raise failure or Trouble("The engine's command failed ({reason}).", "Install it again.", reason=last[:200])

    def _take(self, said: dict) -> None:
        if "added" in said:
            self._added = True
        elif "done" in said:
            self.done, self.total = said["done"], said["total"]
        elif offer := said.get("offer"):
            _offer(Offer(offer["repository"], offer["commit"], offer["licence"], offer["files"], offer["bytes"]))
        elif "path" in said:
            self.found.append(
                Checkpoint(said["name"], said["path"], said["bytes"], said["licence"], said.get("made_here", False))
            )


known: list[Checkpoint] | None = None
"""Those of the local engine; None until it has been asked."""
offered: Offer | None = None
"""What was looked up last and has not been fetched yet; a download that was cut can be gone on with."""
current: Task | None = None
"""The newest command of this Blender."""


def start(python: Path, home: Path, *arguments) -> Task:
    """Begin a command: `python -m engine models` with these arguments."""
    global current
    current = Task(python, home, arguments)
    return current


def names(home: Path) -> list[str]:
    """The names that may be asked for of the local engine, which need not run for that."""
    return models.known(home)


def forget() -> None:
    """Ask the engine again when the list is next shown: another one may be there now."""
    global known, current
    known = current = None


def _know(found: list[Checkpoint]) -> None:
    global known
    known = found


def _offer(offer: Offer | None) -> None:
    global offered
    offered = offer
