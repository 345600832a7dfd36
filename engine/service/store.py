"""Blobs on disk, named by their SHA-256: uploaded frames and results alike, each client's in a folder of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from protocol import limits
from protocol.durable import sync
from protocol.errors import ProtocolError, full_disk
from protocol.messages import Missing

from .accounts import LOCAL

MAX_UPLOADS = 32
"""Blobs that are half uploaded at any moment; the one that was silent longest makes room."""


@dataclass
class _Upload:
    path: Path
    file: BinaryIO
    size: int
    received: int = 0
    sha: object = field(default_factory=hashlib.sha256)
    heard: float = field(default_factory=time.monotonic)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk may refuse what is still buffered
            self.file.close()
        self.path.unlink(missing_ok=True)


class Store:
    """The blobs below an engine's folder. A blob has its name only once all its bytes are on disk and verified.

    An owner never finds another one's blobs, whatever names it knows. Names are 64 hex characters, checked where they
    come in. Methods that write raise `ProtocolError` with code `disk-full` or `cannot-write`, and leave no file behind.
    """

    def __init__(self, home: Path, writer: str = ""):
        """`writer` names who puts blobs in here, for `sweep`."""
        self._blobs, self._partial, self._writer = home / "blobs", home / "partial", writer
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        self._partial.mkdir(mode=0o700, exist_ok=True)
        self._uploads: dict[tuple[str, str], _Upload] = {}

    def path(self, owner: str, name: str) -> Path:
        """Where the blob is, if it is there."""
        return self._blobs / owner / name

    def missing(self, owner: str, names: list[str]) -> list[Missing]:
        """Those of `names` that are not there, each once, and from which byte on; the others count as used now."""
        return [
            Missing(name, self._uploads[owner, name].received if (owner, name) in self._uploads else 0)
            for name in dict.fromkeys(names)
            if not self._found(owner, name)
        ]

    def sizes(self) -> dict[tuple[str, str], int]:
        """Bytes of every blob, by owner and name."""
        found = {}
        for folder in self._blobs.iterdir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # a worker has just found it damaged
                        found[folder.name, entry.name] = entry.stat().st_size
        return found

    def chunk(self, owner: str, name: str, offset: int) -> tuple[bytes, int]:
        """The chunk that begins at byte `offset` (none at the end), and the blob's size.

        Refused with `no-such-blob`, also where its bytes are damaged (it is dropped then), or `malformed`.
        """
        path = self.path(owner, name)
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if offset > size:
                    raise ProtocolError("malformed", f"A blob of {size} bytes has no byte {offset}.")
                if not offset and not verified(file, name):
                    path.unlink(missing_ok=True)
                    raise FileNotFoundError
                file.seek(offset)
                return file.read(limits.CHUNK_BYTES), size
        except FileNotFoundError:
            raise ProtocolError(
                "no-such-blob", f"The engine does not have the frame {name[:12]}… (any more).", "Run the edit again."
            ) from None

    def begins(self, owner: str, name: str, size: int, offset: int, chunk: bytes | memoryview) -> bool:
        """Whether `upload` would begin with this chunk a blob for which there must be room; refused as it refuses that."""
        _check_chunk(size, offset, chunk)
        under_way = self._uploads.get((owner, name))
        return not offset and (under_way is None or under_way.size != size) and not self._found(owner, name)

    def coming(self) -> Counter[str]:
        """Bytes by owner that the blobs will have which are half uploaded."""
        sizes = Counter()
        for (owner, _), upload in self._uploads.items():
            sizes[owner] += upload.size
        return sizes

    def upload(self, owner: str, name: str, size: int, offset: int, chunk: bytes | memoryview) -> int:
        """Take one chunk and return how many bytes are there now; a chunk that does not belong there changes nothing.

        Refused: `over-limit`, `malformed`, and `digest-mismatch` when the last byte is in and the digest is not `name`.
        """
        _check_chunk(size, offset, chunk)
        if self._found(owner, name):
            return size
        upload = self._uploads.pop((owner, name), None)
        try:
            if upload is None or upload.size != size:
                if upload:
                    upload.discard()
                    upload = None
                if offset:
                    return 0
                upload = self._begin(owner, name, size)
            upload.heard = time.monotonic()
            if offset == upload.received:
                upload.file.write(chunk)
                upload.sha.update(chunk)
                upload.received += len(chunk)
                if upload.received == size:
                    self._finish(owner, name, upload)
                    return size
            self._uploads[owner, name] = upload
            return upload.received
        except (OSError, ProtocolError) as error:
            if upload:
                upload.discard()
            if isinstance(error, OSError):
                raise cannot_store(error) from error
            raise

    def put(self, owner: str, data: bytes) -> str:
        """Keep `data` and return its name."""
        name = hashlib.sha256(data).hexdigest()
        if self._found(owner, name):
            return name
        temporary = self._partial / f"result-{self._writer}-{uuid.uuid4().hex}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._name(temporary, owner, name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise cannot_store(error) from error
        return name

    def remove(self, owner: str, name: str) -> None:
        """Drop a blob, if it is there."""
        with contextlib.suppress(OSError):
            self.path(owner, name).unlink()

    def adopt(self) -> None:
        """Take over the blobs of an engine that kept all clients' in one folder (before 0.2)."""
        loose = [path for path in self._blobs.iterdir() if path.is_file()]
        if loose:
            (self._blobs / LOCAL).mkdir(mode=0o700, exist_ok=True)
        for path in loose:
            os.replace(path, self.path(LOCAL, path.name))

    def sweep(self, pattern: str = "*") -> None:
        """Remove what an ended process has left half written: `result-WRITER-*` of a worker, all of a server."""
        for path in self._partial.glob(pattern):
            path.unlink(missing_ok=True)

    def drop_silent(self, seconds: float) -> None:
        """Give up uploads of which nothing has come for so long: whoever sent them has called that off."""
        for key, upload in list(self._uploads.items()):
            if time.monotonic() - upload.heard > seconds:
                self._uploads.pop(key).discard()

    def close(self) -> None:
        """Give up all uploads that are not complete."""
        for upload in self._uploads.values():
            upload.discard()
        self._uploads.clear()

    def _found(self, owner: str, name: str) -> bool:
        """Whether the blob is there. It counts as used now: whoever asks relies on it before a job says that it needs it,
        and an old one would be the first to go."""
        path = self.path(owner, name)
        try:
            os.utime(path)
        except OSError:  # it is not there, or the disk takes no changes
            return path.exists()
        return True

    def _begin(self, owner: str, name: str, size: int) -> _Upload:
        while len(self._uploads) >= MAX_UPLOADS:
            self._uploads.pop(next(iter(self._uploads))).discard()
        path = self._partial / f"upload-{owner}-{name}"
        return _Upload(path, open(path, "wb"), size)

    def _finish(self, owner: str, name: str, upload: _Upload) -> None:
        upload.file.flush()
        os.fsync(upload.file.fileno())
        upload.file.close()
        if upload.sha.hexdigest() != name:
            raise ProtocolError(
                "digest-mismatch", "A frame arrived with other bytes than were announced.", "Send it again."
            )
        self._name(upload.path, owner, name)

    def _name(self, temporary: Path, owner: str, name: str) -> None:
        path = self.path(owner, name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(temporary, path)
        sync(path.parent)


def _check_chunk(size: int, offset: int, chunk: bytes | memoryview) -> None:
    if size > limits.MAX_BLOB_BYTES:
        raise limits.over_limit("bytes in one frame", size, limits.MAX_BLOB_BYTES, "Use smaller frames.")
    if not chunk or offset + len(chunk) > size:
        raise ProtocolError("malformed", f"{len(chunk)} bytes at {offset} do not fit a frame of {size} bytes.")


def verified(file: BinaryIO, name: str) -> bool:
    """Whether the open file holds the bytes that `name` names."""
    return hashlib.file_digest(file, "sha256").hexdigest() == name


def cannot_store(error: OSError) -> ProtocolError:
    """What a user is told of an error in writing to the engine's folder."""
    if full_disk(error):
        return ProtocolError(
            "disk-full", "The engine's disk is full.", "Make room on the disk that holds the engine's folder."
        )
    return ProtocolError(
        "cannot-write", f"The engine cannot write to its folder ({error.strerror}).", "Check the folder's permissions."
    )
