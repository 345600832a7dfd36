"""Checkpoints from the Hugging Face hub: only what is needed, only files that cannot run code, pinned to one commit.

They lie in the hub's own cache, where other programs find them too. Once there, they are used without a network.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from ..errors import EditError
from .about import CARD
from .checks import check_configurations, check_folder
from .files import PARTS, SCHEDULER_FILE, VOCABULARY_FILES, first_line, weights_names

_NEEDED = ("model_index.json", SCHEDULER_FILE, *VOCABULARY_FILES, *(f"{part}/config.json" for part in PARTS))
_WELCOME = (CARD, "profile.json", "tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json")

REPORT_EVERY = 0.5
"""Seconds between two looks at how far a download has come."""


@dataclass(frozen=True)
class Download:
    """What is to be fetched: `sizes` in bytes by file, of the repository's `commit`."""

    repository: str
    commit: str
    license: str
    sizes: Mapping[str, int]

    @property
    def weights(self) -> list[str]:
        return [name for name in self.sizes if name.endswith(".safetensors")]


def cached(repository: str, revision: str) -> Path | None:
    """The folder of a checkpoint that was fetched whole before; None where something is missing, or no commit is named."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        return None
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        check_folder(folder)
    except (LocalEntryNotFoundError, HFValidationError, EditError):
        return None
    return folder


def look_up(repository: str, revision: str) -> Download:
    """Ask the hub which commit `revision` (a branch, tag or commit) is, and which of its files are needed.

    EditError with code `hub` where it cannot be asked, or the repository holds no such checkpoint.
    """
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except Exception as error:
        raise _trouble(repository, revision, error) from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    card = info.card_data
    wanted = needed_files(repository, sizes)
    return Download(
        repository=repository,
        commit=info.sha,
        license=(card.get("license") if card else None) or "not said",
        sizes={name: sizes[name] for name in wanted},
    )


def needed_files(repository: str, names: Mapping[str, int]) -> list[str]:
    """Which files of a repository make a checkpoint; EditError with code `hub` where one is missing."""
    wanted = [name for name in _WELCOME if name in names]
    for name in _NEEDED:
        if name not in names:
            raise EditError(
                "hub", f"'{repository}' holds no checkpoint in diffusers layout: it lacks {name}.", "Name another one."
            )
        wanted.append(name)
    for part in PARTS:
        choices = [f"{part}/{name}" for name in weights_names(part) if name.endswith(".safetensors")]
        chosen = next((name for name in choices if name in names), None)
        if chosen is None:
            raise EditError(
                "hub",
                f"'{repository}' has no {choices[0]}, and other kinds of weights are not fetched, as they could run code.",
                "Fetch it yourself if you trust it, and add its folder.",
            )
        wanted.append(chosen)
    return wanted


def fetch(download: Download, report: Callable[[int], None] = lambda _done: None) -> Path:
    """Fetch the files and return their folder; a download that was cut goes on where it stopped.

    The configurations come first: a checkpoint that cannot work is refused before its weights are fetched. `report` is
    told now and then, in a thread of its own, how many bytes are here.
    """
    try:
        small = [name for name in download.sizes if name not in download.weights]
        check_configurations(_snapshot(download, small))
        with _watched(download, report):
            return _snapshot(download, download.weights)
    except EditError:
        raise
    except Exception as error:
        raise _trouble(download.repository, download.commit, error) from error


def _snapshot(download: Download, names: list[str]) -> Path:
    return Path(snapshot_download(download.repository, revision=download.commit, allow_patterns=names))


@contextlib.contextmanager
def _watched(download: Download, report: Callable[[int], None]) -> Iterator[None]:
    """Look at what lies in the hub's cache, whole or not: its library tells no one about files that it goes on with."""
    folder = Path(HF_HUB_CACHE, repo_folder_name(repo_id=download.repository, repo_type="model"), "blobs")
    total, ended = sum(download.sizes.values()), threading.Event()

    def watch() -> None:
        while not ended.wait(REPORT_EVERY):
            with contextlib.suppress(OSError):  # a file gets its name while we look
                report(min(total, sum(file.stat().st_size for file in folder.iterdir())))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _trouble(repository: str, revision: str, error: Exception) -> EditError:
    """What the hub's library raised, in words; what it is not known to raise goes on as it is.

    Its errors of HTTP are those of the library beneath it, which is not the same one in all its versions.
    """
    known = (
        (HFValidationError, f"'{repository}' is no name of the hub's.", "It must be OWNER/NAME."),
        (GatedRepoError, f"'{repository}' is given only to those who agreed to its terms.", "Agree there, and sign in with 'hf auth login'."),
        (RepositoryNotFoundError, f"The hub has no '{repository}', or it is private.", "Check the name, or sign in with 'hf auth login'."),
        (RevisionNotFoundError, f"'{repository}' has no revision '{revision}'.", "Name a branch, a tag or a commit."),
        ((*HfHubHTTPError.__bases__, OSError),
         f"The hub could not be reached for '{repository}' ({first_line(error)}).",
         "Check the network and try again: what has been fetched is kept."),
    )  # fmt: skip
    for kinds, sentence, remedy in known:
        if isinstance(error, kinds):
            return EditError("hub", sentence, remedy)
    raise error
