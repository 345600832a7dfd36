"""Keeps the libraries' own chatter out of what people read."""

from __future__ import annotations

import diffusers
import transformers


def hush() -> None:
    """Errors of diffusers and transformers still show; progress bars and advice to programmers do not."""
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
