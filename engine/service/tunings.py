"""Tunings as the server sees them: whether one may begin, and how what it has made becomes a model with a name.

A tuning works in its job's own folder. The server moves what is complete out of it, and then gives it its name: killed at
any moment in between, the next server finds it and goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.models.checks import tuned_already
from protocol import limits, models
from protocol.durable import sync
from protocol.errors import ProtocolError
from protocol.files import slug
from protocol.models import TUNED_FOLDER, Model
from protocol.settings import SettingsError
from protocol.tuning import check

from . import divided
from .pipes import Work
from .store import cannot_store

WORK_FOLDER = "model"
"""In a job's folder: the checkpoint that is being made."""


def check_tuning(home: Path, work: Work, others: Iterable[Work]) -> None:
    """Refuse a tuning that cannot come to an end, `others` being those that have not yet.

    `ProtocolError`: `bad-settings`, `bad-name`, `name-taken`.
    """
    if (work.task == "tune") != (work.tuning is not None):
        raise ProtocolError("bad-settings", "A tuning, and nothing else, says what model it makes.", "Give it a name.")
    if work.tuning is None:
        return
    try:
        check(work.tuning)
    except SettingsError as error:
        raise ProtocolError("bad-settings", str(error)) from error
    promised = (other.tuning.name for other in others if other.tuning and other.key != work.key)
    models.check_name(work.tuning.name, [*models.known(home), *promised])
    if tuned_already(models.resolve(home, work.settings.model)):
        raise ProtocolError(
            "bad-settings",
            f"The model '{work.settings.model}' is tuned on video already.",
            "Tune the image model that it was made from.",
        )


def folder_of(home: Path, work: Work) -> Path:
    """Where the job's checkpoint comes to lie: a name for people, and digits that are this job's alone."""
    return home / TUNED_FOLDER / f"{slug(work.tuning.name)}-{_digits(*work.key)}"


def working_folder(home: Path, work: Work) -> Path:
    """Where it is made."""
    return divided.folder_of(home, work) / WORK_FOLDER


def register(home: Path, work: Work) -> tuple[str, list[str]]:
    """Put what the job has made in its place and give it its name: that name, and sentences for the user.

    Then the disk has both. Harmless when repeated. `ProtocolError` where the disk does not take it. Should another model have got the name
    meanwhile, this one gets it with a number.
    """
    made, place = working_folder(home, work), folder_of(home, work)
    try:
        if made.is_dir():
            place.parent.mkdir(mode=0o700, exist_ok=True)
            os.replace(made, place)
        sync(place.parent)
        name, number = work.tuning.name, 1
        while True:
            try:
                name = models.add(home, Model(place.relative_to(home).as_posix()), name)
                break
            except ProtocolError as error:
                if error.code != "name-taken":
                    raise
            number += 1
            name = f"{work.tuning.name[:70]}-{number}"
        sync(home)
    except OSError as error:
        raise cannot_store(error) from error
    if number > 1:
        return name, [limits.cut(f"Another model got the name '{work.tuning.name}' meanwhile: this one is '{name}'.")]
    return name, []


def drop(home: Path, owner: str, job_id: str) -> None:
    """Remove what a cancelled tuning has made, unless it is a model already: it was killed just before it got its name."""
    named = {models.resolve(home, name).path for name in models.known(home)}
    for folder in (home / TUNED_FOLDER).glob(f"*-{_digits(owner, job_id)}"):
        if str(folder.absolute()) not in named:
            shutil.rmtree(folder, ignore_errors=True)


def _digits(owner: str, job_id: str) -> str:
    return hashlib.sha256(f"{owner}/{job_id}".encode()).hexdigest()[:12]
