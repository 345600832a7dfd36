"""What `build.py` is made of: Pythons, environments, the extension, and the commands over them."""
