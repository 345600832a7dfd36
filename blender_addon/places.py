"""Where the engine is: on this machine, started when it is needed, or on another one. Without bpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .protocol import endpoint, keys
from .protocol.endpoint import Endpoint
from .protocol.messages import Ends


@dataclass(frozen=True)
class Local:
    """The user's own engine on this machine."""

    home: Path
    python: Path | None
    """Its interpreter; None if it is not installed."""
    when_alone: Ends
    """What becomes of it when no Blender is connected to it any more."""
    name = ""


@dataclass(frozen=True)
class Remote:
    """Somebody's engine on another machine."""

    address: str
    """`HOST:PORT`."""
    server_key: str
    key_file: Path
    """Holds this client's own key pair."""

    @property
    def name(self) -> str:
        """What tells it from other engines."""
        return self.address

    @property
    def on_this_computer(self) -> bool:
        """Whether nothing leaves this computer on the way to it, as through a tunnel."""
        return self.address.removeprefix("tcp://").rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")

    def endpoint(self) -> Endpoint:
        """How to reach it; `ProtocolError` where the address, its key or our own key file makes no sense."""
        return endpoint.remote(self.address, self.server_key, keys.load_or_make(self.key_file))


Place = Local | Remote
