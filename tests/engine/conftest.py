import json
import shutil
from pathlib import Path

import pytest
import torch

from engine.editing import Editor
from engine.fatezero.unet import FateZeroUNet
from engine.models.checkpoint import load
from engine.models.text import embed, read_prompt

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory) -> Path:
    """The tiny random checkpoint, made for pictures of 64 x 64, so that a test takes no longer than it must."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    shutil.copytree(DATA / "checkpoint", folder)
    profile = {
        "inject_levels": [1, 2, 3],
        "mask_level": 1,
        "mask_places": ["down", "up"],
        "anchor_levels": [1, 2, 3],
        "image_side": 64,
    }
    (folder / "profile.json").write_text(json.dumps(profile))
    return folder


@pytest.fixture(scope="session")
def editor(small_checkpoint) -> Editor:
    return Editor.load(str(small_checkpoint), device="cpu", precision="float32")


@pytest.fixture(scope="session")
def model():
    return load(str(DATA / "checkpoint"), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def unet(model) -> FateZeroUNet:
    return FateZeroUNet(model.unet, model.profile)


@pytest.fixture(scope="session")
def read(model):
    return lambda text: read_prompt(model, text)


@pytest.fixture(scope="session")
def embedding(model):
    return lambda prompt: embed(model, prompt)


@pytest.fixture(scope="module")
def one_thread():
    """As many threads as the children in `killable` have: the number of threads decides the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
