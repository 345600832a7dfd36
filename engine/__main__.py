"""`python -m engine COMMAND`: the engine without Blender. Torch is imported only by commands that compute."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "edit": ("engine.cli.edit:main", "edit a video file or a folder of images"),
    "render": ("engine.cli.render:main", "edit one shot as one task of a render farm"),
    "tune": ("engine.cli.tune:main", "tune a checkpoint on one clip, for shape edits of it"),
    "models": ("engine.cli.models:main", "add, fetch, list and remove checkpoints"),
    "verify": ("engine.cli.verify:main", "replay a case of the authors' program against this engine"),
    "bench": ("engine.cli.bench:main", "measure speed and memory of edits on this machine"),
    "doctor": ("engine.cli.doctor:main", "say what device, memory, versions and checkpoints there are"),
    "serve": ("engine.service.server:main", "serve Blender's add-on"),
    "status": ("engine.cli.control:status", "say whether an engine runs here, and how it is"),
    "jobs": ("engine.cli.control:jobs", "list the running engine's jobs"),
    "cancel": ("engine.cli.control:cancel", "end a job of the running engine"),
    "logs": ("engine.cli.control:logs", "show the engine's log"),
    "keys": ("engine.cli.keys:main", "say which other machines' clients may connect"),
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in COMMANDS:
        print("usage: python -m engine COMMAND [OPTION ...]\n")
        for name, (_, meaning) in COMMANDS.items():
            print(f"  {name:8} {meaning}")
        print("\n'python -m engine COMMAND --help' lists a command's options.")
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    module, _, function = COMMANDS[argv[0]][0].partition(":")
    return getattr(importlib.import_module(module), function)(argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
