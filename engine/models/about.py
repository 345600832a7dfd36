"""What people want to know of a checkpoint beside what it computes: its size on disk and its licence."""

from __future__ import annotations

import re
from pathlib import Path

from protocol.models import Model
from protocol.settings import BUILTIN_MODEL

from ..errors import EditError
from .files import is_safetensors, read_header

CARD = "README.md"
"""A checkpoint's model card, as hubs have them; between `---` lines it begins with what programs read."""
_BUILTIN = Path(__file__).parent / "builtin"
_CARDS = (CARD, "MODEL_CARD.md")


def size(model: Model) -> int:
    """Bytes of all its files."""
    paths = [place(model), *(Path(path) for path in (model.vae, *(file for file, _ in model.loras)) if path)]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def licence(model: Model) -> str:
    """As its model card or its file says; nothing where neither does."""
    path = place(model)
    if is_safetensors(path) and path.is_file():
        try:
            return str(read_header(path)[1].get("modelspec.license", ""))
        except EditError:
            return ""  # whoever uses it will be told that it is damaged
    for name in _CARDS:
        try:
            head = re.match(r"---\s*\n(.*?)\n---", (path / name).read_text("utf-8", "replace"), re.DOTALL)
        except OSError:
            continue
        if head and (said := re.search(r"^license:\s*(\S.*?)\s*$", head[1], re.MULTILINE)):
            return said[1].strip("'\"[]")
    return ""


def place(model: Model) -> Path:
    """Its folder or file."""
    return _BUILTIN if model.path == BUILTIN_MODEL else Path(model.path)
