"""`python -m engine COMMAND`: the engine without Blender. Torch is imported only by commands that compute."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "edit": ("engine.cli.edit", "edit a video file or a folder of images"),
    "models": ("engine.cli.models", "add, fetch, list and remove checkpoints"),
    "verify": ("engine.cli.verify", "replay a case of the authors' program against this engine"),
    "doctor": ("engine.cli.doctor", "say what device, memory, versions and checkpoints there are"),
    "serve": ("engine.service.server", "serve Blender's add-on"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        print("usage: python -m engine COMMAND [OPTION ...]\n")
        for name, (_, meaning) in COMMANDS.items():
            print(f"  {name:8} {meaning}")
        print("\n'python -m engine COMMAND --help' lists a command's options.")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    return importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
