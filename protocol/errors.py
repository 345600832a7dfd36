"""The one error that this package raises, and those of others that it is made from."""

from __future__ import annotations

import errno

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError)
"""All that msgspec raises for bytes that are not what they should be: strings need not be UTF-8, and unknown fields may be
nested without end."""


CODES = {
    # of the connection
    "no-engine": "nothing answers there",
    "endpoint-damaged": "the engine's address or its endpoint file makes no sense",
    "wrong-key": "the engine at that address has another key",
    "bad-key": "what was typed is no key",
    "not-allowed": "the engine does not know this client's key, or keeps that request for its own machine",
    "too-many-connections": "the engine has as many connections as it takes",
    "version-mismatch": "the two sides have no protocol version in common",
    "connection-lost": "the engine has ended, or the network between",
    "time-out": "the engine has not answered in time",
    "malformed": "a message cannot be understood, or an answer does not fit its question",
    "over-limit": "something is larger or more than the limits below",
    "busy": "too many earlier requests wait for their answers: ask again in a moment",
    "cannot-listen": "the engine's address is taken or not this machine's",
    # of requests
    "bad-settings": "no edit can be made with these settings",
    "unknown-task": "the engine is older than what it was asked to make",
    "unknown-model": "no checkpoint of that name is registered on the engine's machine",
    "bad-name": "that cannot name a checkpoint",
    "name-taken": "another checkpoint has that name",
    "no-such-job": "this client has no job of that id",
    "job-differs": "there is a job of that id with other frames or settings",
    "at-work": "a job runs, which what was asked must not disturb",
    "not-done": "the job has no result yet",
    "no-such-blob": "this client has no frame of that name in the engine, or not any more",
    "digest-mismatch": "the bytes that arrived are not those that were named",
    "queue-full": "as many jobs wait as may",
    "store-full": "the engine keeps as many frames and results as it may",
    "disk-full": "a disk is full, here or at the engine",
    "cannot-read": "a file cannot be read",
    "cannot-write": "a file or folder cannot be written to",
    "engine-error": "the engine failed in a way that nobody has foreseen; its log tells more",
}
"""Every code of an error, and what it stands for."""


class ProtocolError(Exception):
    """Something that cannot be done: `code`, one of `CODES`, for programs; `sentence` and `remedy` (one each) for people.

    `refused`: the other side says so of one request; the connection is as good as before, whatever the code.
    """

    def __init__(self, code: str, sentence: str, remedy: str = "", *, refused: bool = False):
        super().__init__(f"{sentence} {remedy}".strip())
        self.code, self.sentence, self.remedy, self.refused = code, sentence, remedy, refused


def full_disk(error: OSError) -> bool:
    """Whether `error` says that a disk, a quota or a file size limit left no room for what was written."""
    return error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
