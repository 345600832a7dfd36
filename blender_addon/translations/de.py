"""German."""

from __future__ import annotations

WORDS = {}
