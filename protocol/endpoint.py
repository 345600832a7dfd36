"""The endpoint file: where an engine listens and the keys to speak with it, readable by its user alone."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec

from .errors import ProtocolError
from .private import write_private

FILE_NAME = "endpoint.json"

Key = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one running engine. The secret key opens it: this value belongs in no log."""

    address: str
    """ZeroMQ address, such as `tcp://127.0.0.1:40123`."""
    server_key: Key
    """The engine's public CURVE key, Z85."""
    client_key: Key
    """Public key of the one client that the engine lets in."""
    client_secret: Key
    pid: int
    """Process id of the engine's server."""
    engine: str
    """The engine's version."""


def default_home() -> Path:
    """The folder below the user's own data where an engine keeps its files, if it is told no other."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "fatezero-vse"


def write(home: Path, endpoint: Endpoint) -> Path:
    """Put `endpoint` into the folder `home`: whole or not at all, and never readable by others. Raises `OSError`."""
    path = home / FILE_NAME
    write_private(path, msgspec.json.encode(endpoint))
    return path


def read(home: Path) -> Endpoint:
    """The endpoint in the folder `home`.

    `ProtocolError` with code `no-engine` where no engine runs (no file, or its process is gone), `endpoint-damaged`
    where the file makes no sense, `cannot-read` where it may not be read.
    """
    path = home / FILE_NAME
    try:
        endpoint = msgspec.json.decode(path.read_bytes(), type=Endpoint)
    except FileNotFoundError:
        raise ProtocolError("no-engine", "No engine is running.", "Start the engine.") from None
    except OSError as error:
        raise ProtocolError(
            "cannot-read", f"The engine's endpoint file {path} cannot be read ({error.strerror}).",
            "Check who owns the file.",
        ) from error  # fmt: skip
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(
            "endpoint-damaged", f"The engine's endpoint file {path} is damaged.", "Restart the engine to write it anew."
        ) from error
    if not process_runs(endpoint.pid):
        raise ProtocolError(
            "no-engine", f"The engine (process {endpoint.pid}) has ended without saying so.", "Start the engine again."
        )
    return endpoint


def remove(home: Path) -> None:
    """Take the endpoint file away, if it is there."""
    with contextlib.suppress(OSError):
        (home / FILE_NAME).unlink()


def process_runs(pid: int) -> bool:
    """Whether a process of that id is there, whoever owns it."""
    if pid <= 0:
        return False
    if sys.platform == "win32":  # os.kill would end it there
        import ctypes

        query_limited, still_active = 0x1000, 259
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(query_limited, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == still_active
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
