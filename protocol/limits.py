"""Every limit of the protocol: checked by both sides, and by the engine before it allocates anything."""

from __future__ import annotations

from .errors import ProtocolError

KIB, MIB = 1024, 1024 * 1024

MAX_HEADER_BYTES = 4 * MIB
"""Of one message's header; the longest is the status of a job of `MAX_FRAMES` frames and `MAX_MASK_WORDS` masks."""
CHUNK_BYTES = 256 * KIB
"""Of a blob, carried by one message."""
MAX_PREVIEW_FRAMES = 8
"""Of a clip that one preview shows."""
MAX_PREVIEW_SIDE = 256
"""Pixels along a preview's width or height."""
MAX_BUFFERS = MAX_PREVIEW_FRAMES
"""Raw buffers behind one header, each no larger than a chunk."""
MAX_PART_BYTES = MAX_HEADER_BYTES + KIB
"""Of one part of a ZeroMQ message, with the few bytes that CURVE adds to it; libzmq drops the connection of a peer that
announces more."""
MAX_SETTINGS_BYTES = 64 * KIB
"""Of a job's settings, encoded: prompts and words together."""
MAX_BLOB_BYTES = 128 * MIB
"""Of one frame's PNG file."""
MAX_FRAMES = 2000
"""Of one job."""
MAX_OFFERED_BLOBS = 256
"""Of one offer."""
MAX_FRAME_SIDE = 8192
"""Pixels along a frame's width or height."""
MAX_FPS = 1000
"""Frames a second of one clip."""
MAX_MASK_WORDS = 16
"""Words of one job whose masks are wanted."""
MAX_PROJECT_CHARACTERS = 200
"""Of a project's name."""
MAX_NOTES = 32
"""Of one job's result."""
MAX_SENTENCE_CHARACTERS = 1000
"""Of a note, or of an error's sentence or remedy; what is longer is cut."""
MAX_QUEUED_JOBS = 1024
"""Jobs of one engine that have not ended."""
MAX_CLIENT_JOBS = 256
"""Jobs of one client that have not ended."""
MAX_JOBS_LISTED = 200
"""The newest ones, in one answer."""
MAX_CONNECTIONS = 64
"""To one engine at a time; one more is turned away with its own reason (status 500 of the handshake)."""
TRANSFER_WINDOW = 16
"""The credit of a transfer: chunks that are under way at a time, in either direction."""
MAX_UNANSWERED = 2 * TRANSFER_WINDOW
"""Requests of one connection that wait for their answers; further ones are refused with `busy`."""
MAX_WAITING_BYTES = 64 * MIB
"""Of all requests that wait for their answers; further ones are refused with `busy`."""
MAX_EVENTS_KEPT = 256
"""By a client that does not ask for them; the oldest make room."""
MAX_PREVIEWS_KEPT = 8
"""The same of previews."""
MAX_MESSAGES_WAITING = 2 * MAX_UNANSWERED
"""In a socket's queue, for one peer. libzmq counts what was read half a queue at a time, and up to a millisecond late: a
queue with room for the answers alone would count as full, and drop answers, to a client that reads all the time."""


def over_limit(what: str, value: int, most: int, remedy: str) -> ProtocolError:
    """The error for `what` (a plural with its unit, such as 'frames in one job') where `value` passes `most`."""
    return ProtocolError("over-limit", f"{value} {what} are too many: the engine takes at most {most}.", remedy)


def cut(sentence: str) -> str:
    """`sentence`, no longer than one may be."""
    if len(sentence) <= MAX_SENTENCE_CHARACTERS:
        return sentence
    return sentence[: MAX_SENTENCE_CHARACTERS - 1] + "…"


def as_dict() -> dict[str, int]:
    """The limits that a client may want to know beforehand, as `Welcome` carries them."""
    return {
        "frames": MAX_FRAMES,
        "frame_bytes": MAX_BLOB_BYTES,
        "frame_side": MAX_FRAME_SIDE,
        "mask_words": MAX_MASK_WORDS,
        "settings_bytes": MAX_SETTINGS_BYTES,
        "queued_jobs": MAX_CLIENT_JOBS,
        "chunk_bytes": CHUNK_BYTES,
        "offered_blobs": MAX_OFFERED_BLOBS,
    }
