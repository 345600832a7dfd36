"""Engines for the tests: processes of their own, every one of which must be gone when its test is over."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protocol import models
from protocol.connection import Connection
from protocol.settings import EditSettings, apply_preset
from tests.protocol.leaks import nothing_leaks  # noqa: F401  used by every test
from tests.service.harness import PATIENCE, Engine, small_checkpoint, wait_until


@pytest.fixture
def start_engine(tmp_path, checkpoint) -> Iterator[Callable[..., Engine]]:
    """Start engines that end with the test."""
    with contextlib.ExitStack() as engines:

        def start(home: Path = tmp_path / "home", *arguments: str, before: str = "") -> Engine:
            models.register(home, checkpoint)
            engine = Engine(home, *arguments, before=before)
            engines.callback(lambda: engine.process.poll() is None and engine.end())
            return engine

        yield start


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory, checkpoint) -> Iterator[Engine]:
    """An engine that stays, with its worker warm."""
    home = tmp_path_factory.mktemp("engine") / "home"
    models.register(home, checkpoint)
    engine = Engine(home)
    yield engine
    assert engine.end(signal.SIGTERM) == 0, engine.log.read_text()
    assert not engine.leftovers()


@pytest.fixture
def connection(shared_engine) -> Iterator[Connection]:
    with shared_engine.connect() as connection:
        connection.hello(timeout=PATIENCE)
        yield connection


@pytest.fixture
def clip(tmp_path) -> Callable[..., list[Path]]:
    """Write PNG files of a square that moves over noise, or over black."""

    def write(
        frames: int = 3, width: int = 48, height: int = 32, mode: str = "RGB", seed: int = 0, flat: bool = False
    ) -> list[Path]:
        folder = tmp_path / f"clip-{frames}-{width}x{height}-{mode}-{seed}-{flat}"
        folder.mkdir()
        source = np.random.default_rng(seed)
        paths = []
        for number in range(frames):
            pixels = source.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
            if flat:
                pixels[:] = 0
            pixels[8:20, 4 + 4 * number : 20 + 4 * number] = 200
            paths.append(folder / f"{number:04}.png")
            Image.fromarray(pixels.squeeze()).save(paths[-1])
        return paths

    return write


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("models") / "checkpoint")


@pytest.fixture(scope="session")
def settings(checkpoint) -> Callable[..., EditSettings]:
    """Settings of a short edit, or of what it is changed to."""

    def make(**changes) -> EditSettings:
        values = dict(steps=2, model=models.name_of(checkpoint), mask_words=("ball",))
        return apply_preset("attribute", "a red ball", "a blue ball", **(values | changes))

    return make


@pytest.fixture
def start_endless(settings, clip) -> Callable[..., None]:
    """Submit an edit that takes long enough to be disturbed, and wait until it denoises."""

    def start(connection: Connection, job_id: str, frames: list[Path] | None = None) -> None:
        connection.submit(job_id, settings(steps=999), frames or clip(2))
        wait_until(
            lambda: (status := connection.status(job_id)).final or (status.stage == "invert" and status.step > 1),
            "the first steps",
        )
        assert connection.status(job_id).state == "running"

    return start
