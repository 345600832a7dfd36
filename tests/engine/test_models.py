"""`python -m engine models`, as a user runs it. The hub cannot be reached from tests: of it, what happens before and
after a download is tested, on a cache that is laid out here as the hub's library lays it."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.cli.models import ask
from engine.clips import write_clip
from engine.errors import EditError
from engine.models import hub
from protocol import models
from protocol.models import Model
from tests.engine.families import FAMILIES, make

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("models") / "mine", FAMILIES["1.4"])


@pytest.fixture
def run(tmp_path):
    """Run a command with a home of its own and the hub switched off: what it said, on standard error where it failed."""
    environment = os.environ | {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "XDG_DATA_HOME": str(tmp_path)}

    def command(*arguments, code=0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "engine", *map(str, arguments)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    return command


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "fatezero-vse"


def test_a_checkpoint_is_added_with_what_belongs_to_it_listed_and_removed(run, home, folder, tmp_path):
    lora = tmp_path / "ink.safetensors"
    save_file(
        {"unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3), "unet.conv_in.lora_B.weight": torch.ones(8, 1, 1, 1)},
        lora,
    )
    said = run("models", "add", folder, "--name", "inked", "--vae", folder, "--lora", f"{lora}:0.4", "--lora", lora)
    assert said == "inked: for pictures, made for 64 x 64.\n"
    expected = Model(str(folder), vae=str(folder), loras=((str(lora), 0.4), (str(lora), 1.0)))
    assert models.resolve(home, "inked") == expected
    listed = run("models", "list")
    assert "comes with the engine" in listed and f"LoRA {lora}, weight 0.4" in listed
    assert "is forgotten" in run("models", "remove", "inked")
    assert models.known(home) == ["builtin"] and folder.is_dir()
    assert "knows no model 'inked'" in run("models", "remove", "inked", code=1)


def test_what_cannot_work_is_refused_when_it_is_added(run, home, folder, tmp_path):
    lacking = Path(shutil.copytree(folder, tmp_path / "lacking"))
    (lacking / "vae/diffusion_pytorch_model.safetensors").unlink()
    assert "'lacking' lacks vae/diffusion_pytorch_model.safetensors" in run("models", "add", lacking, code=1)
    torch.save({"unet.conv_in.lora_A.weight": torch.ones(1)}, tmp_path / "code.bin")
    assert "'code.bin' is neither" in run("models", "add", tmp_path / "code.bin", code=1)
    assert "no .safetensors file" in run("models", "add", folder, "--lora", tmp_path / "code.bin", code=1)
    save_file({"unet.conv_in.lora_A.weight": torch.ones(1)}, tmp_path / "ink.safetensors")
    for weight in ("nan", "-inf"):
        said = run("models", "add", folder, "--lora", f"{tmp_path / 'ink.safetensors'}:{weight}", code=1)
        assert f"'ink.safetensors' has the weight {weight}. Give a number" in said
    assert models.known(home) == ["builtin"]


def test_an_edit_may_name_a_model(run, home, folder, tmp_path):
    models.add(home, Model(str(folder)), "mine")
    write_clip(tmp_path / "in", np.full((2, 40, 64, 3), 90, np.uint8), 24)
    words = ("--source", "a red cube", "--target", "a blue cube", "--steps", 1, "--out")
    assert "2 frames" in run("edit", tmp_path / "in", *words, tmp_path / "out", "--model", "mine")
    again = run("edit", tmp_path / "in", *words, tmp_path / "again", "--model", "other", code=1)
    assert "no checkpoint folder or file 'other'" in again


def fill_cache(hub_home: Path, folder: Path) -> Path:
    """The checkpoint as the hub's library keeps it: blobs, and a commit's files as links to them."""
    repository = hub_home / "hub" / "models--someone--small"
    snapshot = repository / "snapshots" / COMMIT
    for index, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        blob = repository / "blobs" / f"{index:040x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_what_was_fetched_before_is_used_without_a_network(run, home, folder, tmp_path):
    snapshot = fill_cache(tmp_path / "hub", folder)
    said = run("models", "fetch", "someone/small", "--revision", COMMIT)
    assert said == "someone-small: for pictures, made for 64 x 64.\n"
    assert models.resolve(home, "someone-small") == Model(str(snapshot))
    (snapshot / "unet/diffusion_pytorch_model.safetensors").unlink()
    refused = run("models", "fetch", "someone/small", "--revision", COMMIT, "--yes", code=1)
    assert "The hub could not be reached for 'someone/small'" in refused and "what has been fetched is kept" in refused


def test_a_name_that_is_none_is_refused(run):
    assert "'not//a name' is no name of the hub's" in run("models", "fetch", "not//a name", "--yes", code=1)


def test_without_a_yes_nothing_is_fetched(monkeypatch, capsys):
    download = hub.Download(
        "someone/small", COMMIT, "openrail", {"unet/diffusion_pytorch_model.safetensors": 3 * 10**9}
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal: nobody said it
    with pytest.raises(EditError, match="Nothing was fetched. Answer y, or give --yes"):
        ask(download, yes=False)
    ask(download, yes=True)
    assert f"someone/small, commit {COMMIT}: 1 files, 3.0 GB, licence: openrail." in capsys.readouterr().out


def test_only_what_is_needed_and_cannot_run_code_is_fetched(folder):
    names = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    more = dict.fromkeys(
        ["unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "v1-5.ckpt", "run.py"], 1
    )
    wanted = hub.needed_files("someone/small", names | more)
    assert sorted(wanted) == sorted(name for name in names)
    half = {name.replace("model.safetensors", "model.fp16.safetensors"): size for name, size in names.items()}
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in hub.needed_files("someone/small", half)
    pickled = {name.replace(".safetensors", ".bin"): size for name, size in names.items()}
    with pytest.raises(EditError, match="other kinds of weights are not fetched, as they could run code"):
        hub.needed_files("someone/small", pickled)
    with pytest.raises(EditError, match="it lacks model_index.json"):
        hub.needed_files("someone/small", {"README.md": 1})


def test_programs_read_lines_of_json(run, home, folder, tmp_path):
    card = tmp_path / "carded"
    shutil.copytree(folder, card)
    (card / "README.md").write_text("---\ntags: [video]\nlicense: openrail\n---\n# A model\n")
    assert json.loads(run("models", "add", card, "--name", "mine", "--json")) == {"added": "mine"}
    builtin, mine = map(json.loads, run("models", "list", "--json").splitlines())
    assert (builtin["name"], builtin["licence"]) == ("builtin", "gpl-3.0") and builtin["bytes"] > 1e7
    size = sum(path.stat().st_size for path in card.rglob("*") if path.is_file())
    assert mine == {"name": "mine", "path": str(card), "bytes": size, "licence": "openrail", "made_here": False}
    assert json.loads(run("models", "remove", "mine", "--json")) == {"removed": "mine"}
    done = subprocess.run(
        [sys.executable, "-m", "engine", "models", "remove", "mine", "--json", "--home", home],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "unknown-model"
