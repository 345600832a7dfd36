"""Every developer command: `python build.py --help` names them. Standard library only.

This file stays readable for old Pythons, so that they can say which Python would do.
"""

import sys

if sys.version_info[:2] not in ((3, 11), (3, 13)):
    sys.exit(
        "build.py needs Python 3.11 (for Blender 4.5) or 3.13 (for Blender 5.2), and this is Python %d.%d: "
        "run it as `python3.11 build.py ...` (Windows: `py -3.11 build.py ...`)." % sys.version_info[:2]
    )

from buildtools.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
