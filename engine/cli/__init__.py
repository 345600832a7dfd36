"""The engine's commands, a file each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from protocol.errors import ProtocolError

from ..errors import EditError


def run(command: Callable[[], None], as_json: bool = False) -> int:
    """Run a command; what cannot be done ends it with one sentence, or a line of JSON, and exit code 1."""
    try:
        command()
    except (EditError, ProtocolError) as error:
        if as_json:
            emit(error={"code": error.code, "sentence": error.sentence, "remedy": error.remedy})
        else:
            print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.strerror or error} ({error.filename or 'no file'}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130
    return 0


def count(text: str) -> int:
    """A whole number from 1, for `argparse`."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return int(text)


def emit(**values: object) -> None:
    """A line of JSON, for programs that read along."""
    print(json.dumps(values), flush=True)
