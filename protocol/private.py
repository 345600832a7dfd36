"""Small files that only their user may read, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Put `data` into `path`; it is never readable by others, and never there in part. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
