"""What the add-on costs Blender's main thread while nothing happens: `python -m benchmarks.addon` in the host's Python."""
