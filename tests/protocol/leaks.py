"""A leaked socket or file is a failing test."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> set[str]:
    gc.collect()
    return {f"{path.name} {os.readlink(path)}" for path in DESCRIPTORS.iterdir() if path.is_symlink()}


@pytest.fixture(autouse=True)
def nothing_leaks():
    if not DESCRIPTORS.exists():
        yield
        return
    before = descriptors()
    yield
    leaked = {entry for entry in descriptors() - before if "/proc/" not in entry}
    assert not leaked
