"""Tables on the disk: they give what tensors give, and what is kept is whole or none."""

import gc
import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch

from engine.editing import Keep
from engine.errors import EditError
from engine.fatezero.frames import put
from engine.tables import KeptTable, ScratchTable, read, write
from protocol.settings import apply_preset

KEY = "what they are"


class Lost(Exception):
    pass


@pytest.fixture
def whole() -> torch.Tensor:
    return torch.randn(11, 3, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def kept(tmp_path, whole) -> dict[str, KeptTable]:
    return write(tmp_path / "kept", KEY, {"count": torch.tensor([7]), "all": whole}, tmp_path, Lost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool])
def test_a_table_gives_what_a_tensor_gives(tmp_path, whole, dtype):
    whole, made = (9 * whole).to(dtype), None
    for part in (torch.tensor([5]), torch.tensor([0, 1, 2, 3, 4, 6]), slice(7, None)):
        made = put(made, part, whole[part], lambda *like: ScratchTable(tmp_path, (11, *like[1].shape[1:]), dtype), 11)
    kept = write(tmp_path / "kept", KEY, {"all": made}, tmp_path, Lost)["all"]
    for table in (made, kept, read(tmp_path / "kept", KEY, Lost)["all"]):
        assert (len(table), table.shape, table.dtype, table.nbytes) == (11, (11, 3, 2), dtype, whole.nbytes)
        for part in (torch.tensor([9, 2, 3, 4, 0]), [10, 9], slice(2, 7), slice(None), slice(8, 40)):
            assert torch.equal(table[part], whole[part])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"], "what is being made has no name"


def test_a_kept_file_is_a_digest_and_what_safetensors_reads(tmp_path, kept, whole):
    tensors = safetensors.torch.load((tmp_path / "kept").read_bytes()[32:])
    assert torch.equal(tensors["all"], whole) and tensors["count"].tolist() == kept["count"][:].tolist() == [7]


def test_a_large_table_goes_through_memory_in_blocks(tmp_path):
    whole = torch.arange(3 << 18, dtype=torch.int64).view(3, -1)  # two MiB a frame
    (table,) = write(tmp_path / "kept", KEY, {"all": whole}, tmp_path, Lost).values()
    assert [len(block) for block in table.blocks()] == [1 << 20] * 6
    again = write(tmp_path / "again", KEY, {"all": table}, tmp_path, Lost)["all"]
    assert torch.equal(again[1:], whole[1:])
    assert (tmp_path / "again").read_bytes() == (tmp_path / "kept").read_bytes()


def test_a_copy_outlives_the_file_and_numbers_have_a_row(tmp_path, whole):
    (tmp_path / "kept").write_bytes(bytes(32) + safetensors.torch.save({"all": whole, "count": torch.tensor(7)}))
    body = (tmp_path / "kept").read_bytes()[32:]
    (tmp_path / "kept").write_bytes(hashlib.sha256(f"{len(KEY)} {KEY}".encode() + body).digest() + body)
    before = read(tmp_path / "kept", KEY, Lost)  # as engines of before wrote it
    copy = ScratchTable.copy_of(before["all"], tmp_path)
    (tmp_path / "kept").unlink()
    assert torch.equal(copy[:], whole) and before["count"].shape == (1,)


@pytest.mark.parametrize("spoiled", [b"", b"\0" * 20, b"\0" * 500])
def test_what_was_not_written_so_is_none(tmp_path, kept, spoiled):
    assert read(tmp_path / "kept", "something else", Lost) is None
    assert read(tmp_path / "nothing", KEY, Lost) is None
    (tmp_path / "kept").write_bytes(spoiled)
    assert read(tmp_path / "kept", KEY, Lost) is None


@pytest.mark.parametrize("spoil", ["removed", "cut short"])
def test_a_table_whose_file_goes_is_lost(tmp_path, kept, spoil):
    path = tmp_path / "kept"
    path.unlink() if spoil == "removed" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Lost):
        kept["all"][9:]


def test_a_folder_that_takes_nothing_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EditError, match="cannot write to"):
        ScratchTable(tmp_path / "file", (2, 2), torch.float32)


FRAMES = 19
"""As no other tensor of the tiny checkpoint has rows."""


@pytest.mark.parametrize("mask", ["paper", "refined"])
def test_no_tensor_of_an_edit_that_is_kept_has_all_frames(editor, tmp_path, mask):
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 48, 64, 3), dtype=np.uint8)
    prompts = "shape", "a red cube on grass", "a red ball on grass"
    settings = apply_preset(*prompts, steps=2, mask=mask, blend_latents=True, keep_background=True)
    heard, whole = [], []

    def look(progress) -> None:
        heard.append(progress.stage)
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
        whole.extend(tensor.shape for tensor in tensors if tensor.ndim > 1 and len(tensor) == FRAMES)

    in_memory = editor.edit(clip, settings, look)
    assert whole, "without a disk they lie in memory"
    heard.clear(), whole.clear()
    on_disk = editor.edit(clip, settings, look, keep=Keep(tmp_path / "cache", tmp_path / "job"))
    assert set(heard) >= {"encode", "invert", "edit", "decode"}
    shares = [shape for shape in whole if len(shape) == 3 and len(shape[1:]) == 2]
    assert whole == (shares if mask == "paper" else []), "but how much of the edit each cell of the masks' grid takes"
    assert np.array_equal(in_memory.frames, on_disk.frames)
