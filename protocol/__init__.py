"""The words both sides speak: Blender's add-on and the engine.

Standard library, pyzmq and msgspec only, and relative imports only: `build.py` puts this same folder inside the
add-on's zip.
"""

PROTOCOL_VERSION = 1
