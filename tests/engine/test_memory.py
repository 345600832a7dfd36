"""How many frames go through the UNet together, and what happens when that was too many."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from engine.devices import free_memory
from engine.editing import Keep
from engine.errors import EditError
from engine.geometry import Geometry
from engine.memory import (
    AUTOENCODER_ACTIVATIONS,
    FRAMES_AT_ONCE,
    HELD_BY_ANCHORS,
    Budget,
    attempt,
    band_pixels,
    bytes_per_frame,
)
from protocol.settings import apply_preset

CPU = torch.device("cpu")
SMALL = Geometry((64, 64), (64, 64), (64, 64))


def share_for(model, frames: float) -> float:
    """The share of the free memory that holds so many frames."""
    return frames * bytes_per_frame(model, SMALL) / free_memory(CPU)


@pytest.mark.parametrize(
    ("room", "frames", "anchors", "chunk"),
    [(100, 40, 1, FRAMES_AT_ONCE), (100, 5, 1, 5), (5, 40, 1, 4), (0.1, 40, 1, 2), (0.1, 40, 3, 4), (0.1, 1, 1, 1)],
)
def test_as_many_frames_as_fit_but_more_than_the_anchors(model, room, frames, anchors, chunk):
    assert Budget(model, SMALL, CPU, share_for(model, room)).chunk(frames, anchors, None) == chunk


def test_what_several_anchors_hold_is_room_for_frames_no_more(model):
    assert Budget(model, SMALL, CPU, share_for(model, 5)).chunk(40, 1, None, HELD_BY_ANCHORS) == 4 - HELD_BY_ANCHORS


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


@pytest.mark.parametrize(
    "library", ["CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDNN_STATUS_ALLOC_FAILED"]
)
def test_memory_of_the_gpus_libraries_runs_out_too(editor, library):
    """They take theirs beside torch's; said here by a part of the model, as no CPU has them."""
    expected = editor.edit(clip(), asked()).frames.astype(int)

    def refuse(_, arguments):
        if len(arguments[0]) > 4:
            raise RuntimeError(f"CUDA error: {library}")

    with editor.unet.unet.conv_out.register_forward_pre_hook(refuse):
        assert abs(editor.edit(clip(), asked()).frames - expected).max() <= 1


def write_twice(*_):
    """torch's own complaint names a 'memory location'."""
    torch.zeros(1).expand(3).add_(1)


def fault(*_):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(("wrong", "said"), [(write_twice, "single memory location"), (fault, "illegal memory access")])
def test_other_errors_that_speak_of_memory_stay_what_they_are(editor, wrong, said):
    with editor.unet.unet.conv_out.register_forward_pre_hook(wrong), pytest.raises(RuntimeError, match=said):
        editor.edit(clip(), asked())


def clip(frames=9):
    return np.random.default_rng(0).integers(0, 256, (frames, 64, 64, 3), dtype=np.uint8)


def asked(**changes):
    return apply_preset("attribute", "a red cube on grass", "a blue cube on grass", **({"steps": 2} | changes))


@contextmanager
def room_for(part: torch.nn.Module, pictures: int):
    """Lets a part of the model ask the system for more memory than there is when it is given more pictures at once."""

    def refuse(_, arguments):
        if len(arguments[0]) > pictures:
            allocate(2**60)

    with part.register_forward_pre_hook(refuse):
        yield


@contextmanager
def calls(editor):
    """The pictures that each call of the UNet puts out, rows and frames together."""
    pictures = []
    with editor.unet.unet.conv_out.register_forward_hook(lambda _, arguments, __: pictures.append(len(arguments[0]))):
        yield pictures


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_clip_takes_as_many_calls_as_its_memory_asks_for(editor, frames):
    expected = editor.edit(clip(), asked()).frames.astype(int)
    rows = 2 * frames + 1
    with room_for(editor.unet.unet.conv_out, rows), calls(editor) as pictures:
        result = editor.edit(clip(), asked()).frames
    assert max(pictures) <= rows
    assert abs(result - expected).max() <= 1


class Ended(Exception):
    """Ends an edit where a test wants it."""


def test_an_edit_that_goes_on_takes_as_many_frames_as_it_took_before(editor, tmp_path):
    keep = Keep(tmp_path / "cache", tmp_path / "job")

    def end(progress):
        if progress.stage == "invert" and progress.step == 1:
            raise Ended

    with pytest.raises(Ended), calls(editor) as pictures:
        editor.edit(clip(), asked(), end, keep=keep, memory_share=1e-9)
    assert max(pictures) == 2, "the anchor and one more"
    with calls(editor) as pictures:
        editor.edit(clip(), asked(), keep=keep)
    assert max(pictures) == 2 * 2


def test_memory_that_runs_out_elsewhere_is_said_too(editor):
    def write(*_):
        bytearray(2**62)

    with pytest.raises(EditError, match="9 frames did not fit in memory") as caught:
        editor.edit(clip(), asked(), write=write)
    assert caught.value.code == "memory" and caught.value.remedy


def test_the_autoencoder_takes_fewer_pictures_when_memory_runs_out(editor):
    expected = editor.edit(clip(), asked()).frames
    with room_for(editor.checkpoint.vae.encoder, 3), room_for(editor.checkpoint.vae.decoder, 1):
        assert abs(editor.edit(clip(), asked()).frames.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("stage", ["encoder", "decoder"])
def test_the_autoencoder_takes_bands_when_one_picture_is_too_large(editor, stage):
    expected = editor.edit(clip(2), asked()).frames
    with room_for(getattr(editor.checkpoint.vae, stage), 0):  # it is not called as a whole then
        assert abs(editor.edit(clip(2), asked()).frames.astype(int) - expected).max() <= 1


def test_bands_are_for_pictures_that_do_not_fit_whole(model):
    whole = AUTOENCODER_ACTIVATIONS * 8 * 64 * 64 * 4
    assert band_pixels(model, SMALL, whole) is None
    assert band_pixels(model, SMALL, whole / 2) == 64 * 64 / 2
    assert Budget(model, SMALL, CPU, 1.0).band is None and Budget(model, SMALL, CPU, 1e-9).band == 0


@pytest.mark.parametrize(("part", "most"), [("unet", 1), ("encoder", 0), ("decoder", 0)])
def test_where_not_one_frame_fits_the_edit_says_so(editor, part, most):
    module = editor.unet.unet.conv_out if part == "unet" else getattr(editor.checkpoint.vae, part).conv_in
    with (
        room_for(module, most),
        pytest.raises(EditError, match="Not one frame at 64 x 64 fits .* Close other") as caught,
    ):
        editor.edit(clip(), asked())
    assert caught.value.code == "memory"


def test_a_clip_that_must_be_whole_is_not_parted_when_memory_runs_out(editor):
    whole = asked(normalization="clip")
    assert "All 9 frames were computed together, as normalisation over the clip" in editor.edit(clip(), whole).notes[-1]
    assert editor.edit(clip(8), whole).notes == [] == editor.edit(clip(), asked()).notes
    assert "keys of neighbouring frames" in editor.edit(clip(), asked(keys=("-1",))).notes[-1]
    with (
        room_for(editor.unet.unet.conv_out, 9),
        pytest.raises(EditError, match="9 frames did not fit .* shorter range"),
    ):
        editor.edit(clip(), whole)
