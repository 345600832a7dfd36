"""Runs inside an installed Blender: a script or `-m module` with arguments, as `python` would run it.

blender --background --python inside_blender.py -- PACKAGES SCRIPT|-m MODULE [ARGUMENTS]
"""

import runpy
import sys
from pathlib import Path

packages, *command = sys.argv[sys.argv.index("--") + 1 :]
# After Blender's own packages, which its scripts were tested with; before them only the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.append(packages)
if command[0] == "-m":
    sys.argv = command[1:]
    runpy.run_module(command[1], run_name="__main__", alter_sys=True)
else:
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).resolve().parent))
    runpy.run_path(command[0], run_name="__main__")
