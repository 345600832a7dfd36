"""The cuts of a clip whose parts go to several workers: found together, and as one alone finds them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from engine.clips import ArrayClip
from engine.parts import Part
from engine.service.cuts import FRAMES_TOGETHER, found_together
from engine.shots import find_cuts

FRAMES, CUTS = 100, [30, 77]


class Watched(ArrayClip):
    """A clip that counts the frames that are read."""

    read = 0

    def __getitem__(self, part):
        frames = super().__getitem__(part)
        self.read += len(frames)
        return frames


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Noise about another level in each of three shots."""
    levels = np.repeat([20, 120, 220], np.diff([0, *CUTS, FRAMES]))
    noise = np.random.default_rng(0).integers(0, 30, (FRAMES, 36, 64, 3))
    return (levels[:, None, None, None] + noise).astype(np.uint8)


def read(folder: Path, frames: np.ndarray, part: Part) -> tuple[int, list[range]]:
    """How many frames a worker reads that finds the cuts, and which it has announced."""
    clip, told = Watched(frames), []
    assert found_together(folder, clip, part, told.append) == CUTS
    return clip.read, told


def test_they_are_those_that_one_alone_finds_and_each_frame_is_read_once(tmp_path, frames):
    assert find_cuts(ArrayClip(frames)) == CUTS
    together, told = read(tmp_path, frames, Part(50, 100))
    assert together == FRAMES and told[0].start == FRAMES_TOGETHER, "its own frames first"
    assert sorted(frame for block in told for frame in block) == list(range(FRAMES))
    assert read(tmp_path, frames, Part(0, 50)) == (0, [])


def test_workers_that_begin_at_once_share_the_reading(tmp_path, frames):
    """One comes to the frames that the other has begun with, and finds them read."""
    clips, at_work = [Watched(frames), Watched(frames)], threading.Barrier(2)

    def find(clip: Watched, part: Part) -> None:
        met = []

        def before(_block: range) -> None:
            if len(met) < 2:  # both have read their first frames before either reads its second ones
                met.append(at_work.wait(60))

        assert found_together(tmp_path, clip, part, before) == CUTS

    threads = [
        threading.Thread(target=find, args=arguments) for arguments in zip(clips, (Part(0, 64), Part(64, FRAMES)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(clip.read < FRAMES for clip in clips) and sum(clip.read for clip in clips) >= FRAMES


def test_what_is_damaged_is_read_again(tmp_path, frames):
    read(tmp_path, frames, Part(0, 50))
    first, *others = sorted(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    assert read(tmp_path, frames, Part(0, 50))[0] == FRAMES_TOGETHER
    others[0].write_bytes(bytes(len(others[0].read_bytes())))
    assert read(tmp_path, frames, Part(0, 50))[0] in (FRAMES_TOGETHER, FRAMES % FRAMES_TOGETHER)


def test_a_disk_that_takes_nothing_costs_no_result(tmp_path, frames):
    (in_the_way := tmp_path / "job").write_text("in the way")
    assert read(in_the_way, frames, Part(0, 50))[0] == FRAMES
