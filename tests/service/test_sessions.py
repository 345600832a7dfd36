"""A client that says what it likes, in any order, to a real engine. The long form: `build.py service`."""

from __future__ import annotations

import random

from benchmarks.service import sessions
from benchmarks.service.stage import Stage


def test_whatever_a_client_says_is_answered_and_harms_nobody(tmp_path):
    assert sessions.fuzz(Stage(tmp_path), seconds=6, seed=random.randrange(2**31)) > 200
