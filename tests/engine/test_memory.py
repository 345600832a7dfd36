"""How many frames go through the UNet together, and what happens when that was too many."""

import numpy as np
import pytest
import torch

from engine.devices import free_memory
from engine.errors import EditError
from engine.geometry import Geometry
from engine.memory import FRAMES_AT_ONCE, Budget, attempt, bytes_per_frame

CPU = torch.device("cpu")
SMALL = Geometry((64, 64), (64, 64), (64, 64))
MIB = 2**20


def share_for(model, frames: float) -> float:
    """The share of the free memory that holds so many frames."""
    return frames * bytes_per_frame(model, SMALL) / free_memory(CPU)


@pytest.mark.parametrize(
    ("room", "frames", "anchors", "chunk"),
    [(100, 40, 1, FRAMES_AT_ONCE), (100, 5, 1, 5), (5, 40, 1, 4), (0.1, 40, 1, 2), (0.1, 40, 3, 4), (0.1, 1, 1, 1)],
)
def test_as_many_frames_as_fit_but_more_than_the_anchors(model, room, frames, anchors, chunk):
    assert Budget(model, SMALL, CPU, share_for(model, room)).chunk(frames, anchors, None) == chunk


def test_an_edit_goes_on_with_as_many_frames_as_it_was_begun_with(model):
    now = Budget(model, SMALL, CPU, share_for(model, 6.5))
    assert now.chunk(40, 1, None) == 5
    assert [now.chunk(40, 1, begun_with) for begun_with in (3, 6, 8)] == [3, 6, 5]


def test_what_cannot_fit_is_refused_before_it_begins(model):
    huge = Geometry((1, 1), (1, 1), (2**24, 2**16))
    with pytest.raises(EditError, match=r"One frame at 16777216 x 65536 would take .* Close other programs") as caught:
        Budget(model, huge, CPU, 1.0).chunk(3, 1, None)
    assert caught.value.code == "memory"
    with pytest.raises(EditError, match=r"40 frames .* Edit at most 5 frames at a time"):
        Budget(model, SMALL, CPU, share_for(model, 6.5)).check_whole(40)


def allocate(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8)


@pytest.mark.parametrize("work", [lambda: allocate(2**60), lambda: np.empty(2**50), lambda: bytearray(2**62)])
def test_memory_that_ran_out_is_told_from_other_errors(work):
    assert attempt(CPU, work) is None
    assert attempt(CPU, allocate, 3).shape == (3,)
    with pytest.raises(RuntimeError, match="shape"):
        attempt(CPU, lambda: allocate(3).view(2))
