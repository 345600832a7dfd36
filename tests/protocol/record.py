"""Record the bytes of a release's messages, which later engines must go on reading: one file of each type.

For a release in the folder CHECKOUT (such as `git worktree add CHECKOUT b2659f6` makes it):
`PYTHONPATH=CHECKOUT python tests/protocol/record.py tests/protocol/recorded/version_1`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from protocol import wire
from tests.protocol.test_wire import EVERY_MESSAGE


def record(folder: Path) -> None:
    """Write `NAME.bin`, the header of one message of each type, and `messages.json`, what each of them says."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {}
    for message in EVERY_MESSAGE:
        name = type(message).__name__
        (folder / f"{name}.bin").write_bytes(wire.pack(message)[0])
        said[name] = msgspec.to_builtins(message)
    (folder / "messages.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
