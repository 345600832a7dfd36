"""The endpoint file: where an engine listens and the keys to speak with it, readable by its user alone."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import msgspec

from .errors import UNREADABLE, ProtocolError
from .keys import Key, KeyPair, parse
from .private import write_private

FILE_NAME = "endpoint.json"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one running engine. The secret key opens it: this value belongs in no log."""

    address: str
    """ZeroMQ address, such as `tcp://127.0.0.1:40123`."""
    server_key: Key
    """The engine's public CURVE key, Z85."""
    client_key: Key
    """The client's own public key, which the engine must know."""
    client_secret: Key
    pid: int = 0
    """Process id of the engine's server; 0 where it runs on another machine."""
    engine: str = ""
    """The engine's version, where it is known."""

    @property
    def remote(self) -> bool:
        """Whether the engine is not this user's own on this machine."""
        return self.pid == 0


def remote(address: str, server_key: str, client: KeyPair) -> Endpoint:
    """The endpoint of an engine on another machine, at `HOST:PORT` and with this key as `keys.shown` shows it.

    `ProtocolError` with code `endpoint-damaged` or `bad-key`.
    """
    host, _, port = address.strip().removeprefix("tcp://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ProtocolError(
            "endpoint-damaged",
            f"'{address}' is no address of an engine.",
            "Give a name and a port, as gpu.studio:7860.",
        )
    return Endpoint(
        address=f"tcp://{host}:{port}",
        server_key=parse(server_key),
        client_key=client.public,
        client_secret=client.secret,
    )


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
        raise ProtocolError(
            "no-engine", f"No engine runs in {home}.", "Start one with `python -m engine serve`."
        ) from None
    except OSError as error:
        raise ProtocolError(
            "cannot-read", f"The engine's endpoint file {path} cannot be read ({error.strerror}).",
            "Check who owns the file.",
        ) from error  # fmt: skip
    except UNREADABLE as error:
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
