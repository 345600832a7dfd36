"""The one error that this package raises, and those of others that it is made from."""

from __future__ import annotations

import errno

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError)
"""All that msgspec raises for bytes that are not what they should be: strings need not be UTF-8, and unknown fields may be
nested without end."""


class ProtocolError(Exception):
    """Something that cannot be done: `code` for programs, `sentence` and `remedy` (one sentence each) for people.

    Codes of the connection: `no-engine` (nothing answers there), `endpoint-damaged`, `wrong-key` (the engine at that
    address has another key), `not-allowed` (the engine does not know this client's key, or keeps that request for its
    own machine), `bad-key`, `too-many-connections`, `version-mismatch`, `connection-lost`, `time-out`, `malformed`, `over-limit`,
    `busy`, `disk-full`, `cannot-read`, `cannot-write`.
    Codes of requests: `bad-settings`, `no-such-job`, `job-differs`, `not-done`, `no-such-blob`, `digest-mismatch`,
    `queue-full`, `store-full`, `unknown-model`.
    """

    def __init__(self, code: str, sentence: str, remedy: str = ""):
        super().__init__(f"{sentence} {remedy}".strip())
        self.code, self.sentence, self.remedy = code, sentence, remedy


def full_disk(error: OSError) -> bool:
    """Whether `error` says that a disk, a quota or a file size limit left no room for what was written."""
    return error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))
