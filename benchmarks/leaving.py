"""How a program ends that has Blender in it as a module."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn, TextIO


def leave(code: int, console: TextIO) -> NoReturn:
    """End with what Python does at its end, and without what Blender 4.2 adds to it as a module: a segmentation fault.

    It keeps every callback that an add-on's property ever had, is therefore never freed, and ends after its Python has.
    `console` is where the program has spoken.
    """
    atexit._run_exitfuncs()
    sys.stderr.flush()
    console.flush()
    os._exit(code)
