"""The choice between ways to compute attention: here torch's fused one, and the explicit one of matrices."""

import json
import os
import stat
import sys

import pytest
import torch

from engine import kernel_choice
from engine.fatezero import kernels

CPU = torch.device("cpu")


def explicit(query, key, value):
    return (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1) @ value


def fails(query, key, value):
    raise NotImplementedError("no such shape")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(kernel_choice, "SHAPE", (1, 2, 64, 16))
    monkeypatch.setattr(kernels, "_chosen", {})


def inputs():
    return [torch.randn(1, 2, 30, 16, generator=torch.Generator().manual_seed(part)) for part in range(3)]


def test_two_candidates_are_measured_once_and_the_faster_is_remembered(tmp_path):
    among = {"torch": kernels.of_torch, "explicit": explicit}
    kernel_choice.settle(CPU, torch.float32, tmp_path, among)
    path = tmp_path / kernel_choice.FILE
    (measured,) = json.loads(path.read_text()).values()
    assert measured.keys() == among.keys() and all(0 < seconds < 1 for seconds in measured.values())
    if sys.platform != "win32":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for fastest in among:  # what is written there is what counts
        known = {key: {name: float(name != fastest) for name in among} for key in json.loads(path.read_text())}
        path.write_text(json.dumps(known))
        assert kernel_choice.settle(CPU, torch.float32, tmp_path, among) == fastest
        assert json.loads(path.read_text()) == known


def test_the_chosen_one_computes_attention_of_its_device_and_type_alone(tmp_path):
    ran = []

    def watched(*parts):
        ran.append(parts[0].dtype)
        return explicit(*parts)

    assert kernel_choice.settle(CPU, torch.float32, tmp_path, {"explicit": watched}) == "explicit"
    torch.testing.assert_close(kernels.run(*inputs()), kernels.of_torch(*inputs()))
    kernels.run(*(part.bfloat16() for part in inputs()))
    assert ran == [torch.float32]


def test_one_that_fails_is_never_chosen_and_one_that_fails_later_gives_way_to_torchs(tmp_path):
    assert kernel_choice.settle(CPU, torch.float32, tmp_path, {"broken": fails, "torch": kernels.of_torch}) == "torch"
    kernel_choice.settle(CPU, torch.float32, tmp_path, {"broken": fails})
    assert torch.equal(kernels.run(*inputs()), kernels.of_torch(*inputs()))
    assert not kernels._chosen


@pytest.mark.parametrize("text", ["", "[]", '{"cpu": 1}', "\xff"])
def test_a_spoilt_note_is_measured_anew(tmp_path, text):
    (tmp_path / kernel_choice.FILE).write_text(text, encoding="latin-1")
    kernel_choice.settle(CPU, torch.float32, tmp_path, {"torch": kernels.of_torch, "explicit": explicit})
    assert any(
        "explicit" in known for known in json.loads((tmp_path / kernel_choice.FILE).read_text()).values() if known != 1
    )


def test_nothing_is_measured_where_there_is_no_choice(tmp_path):
    assert kernel_choice.settle(CPU, torch.float32, tmp_path) == "torch"
    assert not list(tmp_path.iterdir())
