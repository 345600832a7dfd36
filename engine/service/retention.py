"""What an engine keeps, and for how long: nothing grows without bound, and nothing that is still needed goes."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from protocol.errors import ProtocolError
from protocol.models import TUNED_FOLDER

from .accounts import Accounts
from .journal import Journal
from .store import Store

KEEP_SECONDS = 24 * 3600.0
"""That frames stay which no job needs any more: another edit of the same strip finds them."""
KEEP_JOBS_SECONDS = 7 * 24 * 3600.0
"""That an ended job is known, once its result was taken."""
MAX_JOBS_KEPT = 10_000
"""Ended jobs that are known."""
IN_USE_SECONDS = 3600.0
"""A blob or a cached inversion that was touched so lately may be in use by somebody who has not said so yet; and one whose
job failed so lately may be about to try it again."""
LOOK_EVERY = 5.0
"""Seconds between two counts of the cache and of the jobs' folders, which only workers make grow, a step at a time."""
SPARE = 100
"""Where room is made, a part of so many of the quota is: a look for what may go takes seconds, and every frame asks."""
DEFAULT_QUOTA = 50
"""Gigabytes."""

log = logging.getLogger(__name__)


class Retention:
    """Keeps frames, results, cached inversions and what jobs go on from below `quota` bytes, and drops what nobody needs
    any more.

    Results that were not fetched, and what jobs need that have not ended, are never dropped: where they fill the quota,
    uploads are refused, and where they fill their owner's share, also further jobs.
    """

    def __init__(self, home: Path, journal: Journal, store: Store, accounts: Accounts, quota: int):
        self._cache, self._jobs, self._tuned = home / "cache", home / "jobs", home / TUNED_FOLDER
        self._journal, self._store, self._accounts, self._quota = journal, store, accounts, quota
        self._sizes = _Sizes(store.sizes())
        self._beside, self._looked = 0, float("-inf")
        """Bytes of the cache and of the jobs' folders, and when (of `time.monotonic`) they were counted."""

    @property
    def used(self) -> int:
        """Bytes of all blobs."""
        return self._sizes.total

    def count(self, owner: str, names: list[str]) -> None:
        """Take note of blobs that are there now."""
        for name in names:
            path = self._store.path(owner, name)
            if path.exists():
                self._sizes.note((owner, name), path.stat().st_size)

    def admit(self, owner: str, size: int) -> None:
        """Make room for an upload of `size` bytes beside those under way; `ProtocolError('store-full')` where there is none."""
        coming, spare = self._store.coming(), self._quota // SPARE
        within = self._within_share(owner, size + coming[owner])
        excess = self.used + self._beside_blobs() + size + coming.total() - self._quota
        for drop in (self._drop_caches, self._drop_blobs, self._drop_checkpoints):
            if excess > 0:
                excess -= drop(max(excess, spare))
        if excess > 0 or not within:
            raise _full()

    def admit_job(self, owner: str) -> None:
        """Refuse a job (`store-full`) whose owner's frames and results take more than they may: frames that are there are
        edited again without an upload, and its result would come on top."""
        if not self._within_share(owner, 0):
            raise _full()

    def admit_model(self) -> None:
        """Refuse a tuning (`store-full`) where the models that were tuned here take the quota already.

        They are their users', and never dropped: so they have a quota of their own. What they share with the models that
        they were made from does not count.
        """
        if sum(_size_of(folder) for folder in self._tuned.glob("*/unet")) >= self._quota:
            raise ProtocolError(
                "store-full",
                "The models that were tuned here take all the room that they may.",
                "Remove one of them from the engine's models. Whoever runs the engine may give it more room (--quota).",
            )

    def sweep(self) -> None:
        """Drop what has been kept long enough, and the checkpoints of jobs that will not go on; beyond the quota also those
        of failed jobs, the oldest first.

        All is counted anew, for workers that died have left some, and damaged blobs have gone.
        """
        self._store.drop_silent(IN_USE_SECONDS)
        now, self._sizes = time.time(), _Sizes(self._store.sizes())
        self._drop_blobs(self.used, before=now - KEEP_SECONDS, untouched=KEEP_SECONDS)
        self._journal.expire(now - KEEP_JOBS_SECONDS, MAX_JOBS_KEPT)
        unfinished = self._journal.unfinished()
        for folder in self._jobs.glob("*/*"):
            if (folder.parent.name, folder.name) not in unfinished:
                self.drop_checkpoint(folder.parent.name, folder.name)
        self._looked = float("-inf")
        excess = self.used + self._beside_blobs() - self._quota
        self._drop_checkpoints(excess - self._drop_caches(excess))

    def drop_checkpoint(self, owner: str, job_id: str) -> None:
        """Remove what the job would have gone on from."""
        shutil.rmtree(self._jobs / owner / job_id, ignore_errors=True)

    def _within_share(self, owner: str, more: int) -> bool:
        """Whether an owner's blobs and so many bytes more are within its share, perhaps once what nobody needs is gone."""
        share = self._quota // self._accounts.count
        excess = self._sizes.of(owner) + more - share
        if excess > 0:
            self._drop_blobs(max(excess, self._quota // SPARE), owner)
        return self._sizes.of(owner) + more <= share

    def _beside_blobs(self) -> int:
        """Bytes of the cache and of the jobs' folders.

        Counted now and then: every frame of an upload asks, and the cache has thousands of files.
        """
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._beside, self._looked = _size_of(self._cache) + _size_of(self._jobs), time.monotonic()
        return self._beside

    def _drop_blobs(
        self, excess: int, owner: str | None = None, before: float = float("inf"), untouched: float = IN_USE_SECONDS
    ) -> int:
        """Drop blobs that no job needs, oldest first, until `excess` bytes are free; returns how many that are."""
        needed = self._journal.needed(before)
        ages = []
        for key in [key for key in self._sizes if key not in needed and owner in (None, key[0])]:
            try:
                ages.append((self._store.path(*key).stat().st_mtime, key))
            except FileNotFoundError:
                self._sizes.drop(key)
        freed = 0
        for age, key in sorted(ages):
            if freed >= excess or age > time.time() - untouched:
                break
            self._store.remove(*key)
            freed += self._sizes.drop(key)
        return freed

    def _drop_caches(self, excess: int) -> int:
        """Drop cached inversions, those first that were not used for longest, until `excess` bytes are free."""
        freed = 0
        entries = sorted((path.stat().st_mtime, path) for path in self._cache.glob("*/*") if path.is_dir())
        for age, entry in entries:
            if freed >= excess or age > time.time() - IN_USE_SECONDS:
                break
            size = _size_of(entry)
            freed += size
            self._beside -= size
            shutil.rmtree(entry, ignore_errors=True)
            log.info("a cached inversion made room", extra={"entry": entry.name})
        return freed

    def _drop_checkpoints(self, excess: int) -> int:
        """Drop what failed jobs would go on from, those first that failed longest ago, until `excess` bytes are free: tried
        again, they begin anew."""
        freed = 0
        for owner, job_id in self._journal.failed(time.time() - IN_USE_SECONDS):
            if freed >= excess:
                break
            if size := _size_of(self._jobs / owner / job_id):
                freed += size
                self._beside -= size
                self.drop_checkpoint(owner, job_id)
                log.info("the checkpoint of a failed job made room", extra={"job": job_id, "owner": owner})
        return freed


class _Sizes:
    """Bytes of blobs by owner and name, and their sums, which are kept: each upload asks for them."""

    def __init__(self, sizes: dict[tuple[str, str], int]):
        self._sizes, self._sums, self.total = {}, Counter(), 0
        for key, size in sizes.items():
            self.note(key, size)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._sizes)

    def of(self, owner: str) -> int:
        """Bytes of all of an owner's."""
        return self._sums[owner]

    def note(self, key: tuple[str, str], size: int) -> None:
        """A blob is there, be it that it was there before."""
        more = size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self._sums[key[0]] += more
        self.total += more

    def drop(self, key: tuple[str, str]) -> int:
        """A blob is gone; returns how large it was."""
        size = self._sizes.pop(key)
        self._sums[key[0]] -= size
        self.total -= size
        return size


def _full() -> ProtocolError:
    return ProtocolError(
        "store-full",
        "The engine keeps as many frames and results as it may.",
        "Fetch finished edits or dismiss them, or cancel paused jobs. Whoever runs the engine may give it more room (--quota).",
    )


def _size_of(folder: Path) -> int:
    """Bytes of all its files, but of those that lie elsewhere too: a tuning's folder has links to a model's files.

    Workers may write and remove some meanwhile.
    """
    size = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                stat = os.stat(os.path.join(inside, name))
                size += stat.st_size if stat.st_nlink == 1 else 0
    return size
