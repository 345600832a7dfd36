"""Blobs on disk, named by their SHA-256: uploaded frames and results alike."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from protocol import limits
from protocol.errors import ProtocolError, full_disk
from protocol.messages import Missing

MAX_UPLOADS = 32
"""Blobs that are half uploaded at any moment; the one that was silent longest makes room."""


@dataclass
class _Upload:
    path: Path
    file: BinaryIO
    size: int
    received: int = 0
    sha: object = field(default_factory=hashlib.sha256)

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # a full disk may refuse what is still buffered
            self.file.close()
        self.path.unlink(missing_ok=True)


class Store:
    """The blobs below an engine's folder. A blob has its name only once all its bytes are on disk and verified.

    Names are 64 hex characters, checked where they come in. Methods that write raise `ProtocolError` with code
    `disk-full` or `cannot-write`, and leave no file behind then.
    """

    def __init__(self, home: Path):
        self._blobs, self._partial = home / "blobs", home / "partial"
        self._blobs.mkdir(mode=0o700, exist_ok=True)
        self._partial.mkdir(mode=0o700, exist_ok=True)
        self._uploads: dict[str, _Upload] = {}

    def path(self, name: str) -> Path:
        """Where the blob is, if it is there."""
        return self._blobs / name

    def missing(self, names: list[str]) -> list[Missing]:
        """Those of `names` that are not there, each once, and from which byte on."""
        return [
            Missing(name, self._uploads[name].received if name in self._uploads else 0)
            for name in dict.fromkeys(names)
            if not self.path(name).exists()
        ]

    def chunk(self, name: str, offset: int) -> tuple[bytes, int]:
        """The chunk that begins at byte `offset`, and the blob's size; refused with `no-such-blob` or `malformed`."""
        try:
            with open(self.path(name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if offset >= size:
                    raise ProtocolError("malformed", f"A blob of {size} bytes has no byte {offset}.")
                file.seek(offset)
                return file.read(limits.CHUNK_BYTES), size
        except FileNotFoundError:
            raise ProtocolError(
                "no-such-blob", f"The engine does not have the frame {name[:12]}….", "Run the edit again."
            ) from None

    def upload(self, name: str, size: int, offset: int, chunk: bytes | memoryview) -> int:
        """Take one chunk and return how many bytes are there now; a chunk that does not belong there changes nothing.

        Refused: `over-limit`, `malformed`, and `digest-mismatch` when the last byte is in and the digest is not `name`.
        """
        if size > limits.MAX_BLOB_BYTES:
            raise limits.over_limit("bytes in one frame", size, limits.MAX_BLOB_BYTES, "Use smaller frames.")
        if not chunk or offset + len(chunk) > size:
            raise ProtocolError("malformed", f"{len(chunk)} bytes at {offset} do not fit a frame of {size} bytes.")
        if self.path(name).exists():
            return size
        upload = self._uploads.pop(name, None)
        try:
            if upload is None or upload.size != size:
                if upload:
                    upload.discard()
                    upload = None
                if offset:
                    return 0
                upload = self._begin(name, size)
            if offset == upload.received:
                upload.file.write(chunk)
                upload.sha.update(chunk)
                upload.received += len(chunk)
                if upload.received == size:
                    self._finish(name, upload)
                    return size
            self._uploads[name] = upload
            return upload.received
        except (OSError, ProtocolError) as error:
            if upload:
                upload.discard()
            if isinstance(error, OSError):
                raise cannot_store(error) from error
            raise

    def put(self, data: bytes) -> str:
        """Keep `data` and return its name."""
        name = hashlib.sha256(data).hexdigest()
        if self.path(name).exists():
            return name
        temporary = self._partial / f"result-{uuid.uuid4().hex}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._name(temporary, name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise cannot_store(error) from error
        return name

    def sweep(self, pattern: str = "*") -> None:
        """Remove what an ended process has left half written: `result-*` of a worker, all of a server."""
        for path in self._partial.glob(pattern):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give up all uploads that are not complete."""
        for upload in self._uploads.values():
            upload.discard()
        self._uploads.clear()

    def _begin(self, name: str, size: int) -> _Upload:
        while len(self._uploads) >= MAX_UPLOADS:
            self._uploads.pop(next(iter(self._uploads))).discard()
        path = self._partial / f"upload-{name}"
        return _Upload(path, open(path, "wb"), size)

    def _finish(self, name: str, upload: _Upload) -> None:
        upload.file.flush()
        os.fsync(upload.file.fileno())
        upload.file.close()
        if upload.sha.hexdigest() != name:
            raise ProtocolError(
                "digest-mismatch", "A frame arrived with other bytes than were announced.", "Send it again."
            )
        self._name(upload.path, name)

    def _name(self, temporary: Path, name: str) -> None:
        os.replace(temporary, self.path(name))
        if sys.platform != "win32":  # where folders cannot be opened, nor need to be
            folder = os.open(self._blobs, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def cannot_store(error: OSError) -> ProtocolError:
    """What a user is told of an error in writing to the engine's folder."""
    if full_disk(error):
        return ProtocolError(
            "disk-full", "The engine's disk is full.", "Make room on the disk that holds the engine's folder."
        )
    return ProtocolError(
        "cannot-write", f"The engine cannot write to its folder ({error.strerror}).", "Check the folder's permissions."
    )
