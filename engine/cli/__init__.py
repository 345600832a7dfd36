"""The engine's commands, a file each."""

from __future__ import annotations

import sys
from collections.abc import Callable

from protocol.errors import ProtocolError

from ..errors import EditError


def run(command: Callable[[], None]) -> int:
    """Run a command; what cannot be done ends it with one sentence and exit code 1."""
    try:
        command()
    except (EditError, ProtocolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error} ({error.filename or 'no file'}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130
    return 0
