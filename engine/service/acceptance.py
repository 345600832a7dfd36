"""What is checked of a job before it is accepted."""

from __future__ import annotations

from pathlib import Path

import msgspec

from protocol import limits
from protocol.errors import ProtocolError
from protocol.settings import SettingsError, check

from .journal import Journal
from .pipes import Work
from .tunings import check_tuning


def check_work(home: Path, work: Work, journal: Journal) -> None:
    """Refuse a new job with a `ProtocolError`: `over-limit`, `bad-settings`, `queue-full`, or as `check_tuning`."""
    for what, value, most, remedy in (
        ("frames in one job", len(work.frames), limits.MAX_FRAMES, "Edit a shorter strip."),
        ("mask words", len(work.settings.mask_words), limits.MAX_MASK_WORDS, "Ask for fewer masks."),
        (
            "bytes of settings",
            len(msgspec.msgpack.encode(work.settings)),
            limits.MAX_SETTINGS_BYTES,
            "Shorten the prompts.",
        ),
    ):
        if value > most:
            raise limits.over_limit(what, value, most, remedy)
    try:
        check(work.settings)
    except SettingsError as error:
        raise ProtocolError("bad-settings", str(error)) from error
    if len(work.own_masks) != (len(work.frames) if work.settings.own_mask else 0):
        raise ProtocolError(
            "bad-settings",
            f"own_mask is '{work.settings.own_mask}', and there are {len(work.own_masks)} masks for "
            f"{len(work.frames)} frames.",
            "Give one mask a frame, or none and an empty own_mask.",
        )
    check_tuning(home, work, journal.open_works() if work.tuning else ())
    check_room(work.owner, journal)


def check_room(owner: str, journal: Journal) -> None:
    """Refuse one more job that has not ended, where there are as many as may be: `ProtocolError('queue-full')`."""
    for whose, most in ((owner, limits.MAX_CLIENT_JOBS), (None, limits.MAX_QUEUED_JOBS)):
        if journal.count(whose) >= most:
            raise ProtocolError(
                "queue-full", f"{most} jobs are waiting already.", "Wait for one to finish, or cancel one."
            )
