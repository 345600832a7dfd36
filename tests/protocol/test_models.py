"""Checkpoints by name."""

import json
import stat
from pathlib import Path

import pytest

from protocol import models
from protocol.errors import ProtocolError
from protocol.models import Model


def test_a_registered_folder_is_found_by_its_name(tmp_path):
    home, folder = tmp_path / "home", tmp_path / "my models" / "stable diffusion"
    name = models.register(home, folder)
    assert name.startswith("stable-diffusion-") and "/" not in name
    assert models.resolve(home, name) == Model(str(folder))
    assert models.register(home, folder) == name
    assert models.known(home) == ["builtin", name]
    assert stat.S_IMODE((home / models.FILE_NAME).stat().st_mode) == 0o600


def test_folders_of_one_name_are_told_apart(tmp_path):
    first, second = (models.register(tmp_path, Path(place) / "unet") for place in ("/a", "/b"))
    assert first != second
    found = {models.resolve(tmp_path, name).path for name in (first, second)}
    assert found == {str(Path("/a/unet")), str(Path("/b/unet"))}


def test_a_model_with_additions_is_another_model(tmp_path):
    plain = models.register(tmp_path, Path("/a/sd"))
    model = Model("/a/sd", vae="/a/vae", loras=(("/a/style.safetensors", 0.7),))
    name = models.add(tmp_path, model)
    assert name != plain and models.resolve(tmp_path, name) == model
    assert models.add(tmp_path, model, "styled") == "styled"
    assert models.known(tmp_path) == ["builtin", plain, name, "styled"]
    models.remove(tmp_path, name)
    assert models.known(tmp_path) == ["builtin", plain, "styled"]


def test_a_name_means_one_model(tmp_path):
    models.add(tmp_path, Model("/a"), "mine")
    models.add(tmp_path, Model("/a"), "mine")
    for taken in ("mine", "builtin"):
        with pytest.raises(ProtocolError, match=f"Another model is called '{taken}'"):
            models.add(tmp_path, Model("/b"), taken)
    with pytest.raises(ProtocolError, match="cannot be called '../x'"):
        models.add(tmp_path, Model("/b"), "../x")
    with pytest.raises(ProtocolError, match="knows no model 'other'"):
        models.remove(tmp_path, "other")


@pytest.mark.parametrize(
    ("profile", "base"),
    [
        (b'{"base": "builtin", "mask_level": 1}', "builtin"),
        (b'{"mask_level": 1}', ""),
        (b'{"base": "another"}', ""),
        (b'{"base": ["builtin"]}', ""),
        (b"[]", ""),
        (b'{"base"', ""),
        (b"\xff", ""),
        (None, ""),
    ],
)
def test_a_folder_says_what_it_was_tuned_from(tmp_path, profile, base):
    if profile is not None:
        (tmp_path / models.PROFILE_FILE).write_bytes(profile)
    assert models.base_of(Model(str(tmp_path))) == base
    assert models.base_of(Model(str(tmp_path / "none"))) == models.base_of(Model("builtin")) == ""


def test_what_was_tuned_here_is_found_wherever_the_folder_is_moved(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    models.add(before, Model("tuned/mine-1"), "mine")
    models.add(before, Model(str(tmp_path / "elsewhere")), "other")
    before.rename(after)
    folder = after / "tuned" / "mine-1"
    assert models.resolve(after, "mine").path == str(folder)
    assert (models.made_here(after, "mine"), models.made_here(after, "other")) == (folder, None)
    assert models.made_here(after, "builtin") is None
    models.add(after, Model(str(tmp_path / "sd"), vae=str(folder)), "user-of-its-autoencoder")
    assert models.made_here(after, "mine") is None, "another model needs its files"
    models.remove(after, "user-of-its-autoencoder")
    models.add(after, Model(str(folder)), "second-name")
    assert models.made_here(after, "mine") is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 81, "a/b", "a\n", "ä" * 80, "jeep-2.1_b"])
def test_names_are_told_from_what_cannot_be_one(name):
    if name in ("ä" * 80, "jeep-2.1_b"):
        models.check_name(name, ["other"])
        with pytest.raises(ProtocolError, match="Another model") as refused:
            models.check_name(name, [name])
    else:
        with pytest.raises(ProtocolError, match="cannot be called") as refused:
            models.check_name(name, [])
    assert refused.value.code == ("name-taken" if "Another" in str(refused.value) else "bad-name")
    assert refused.value.remedy


def test_what_earlier_versions_wrote_is_read(tmp_path):
    (tmp_path / models.FILE_NAME).write_text(json.dumps({"old": "/a/b"}))
    assert models.resolve(tmp_path, "old") == Model("/a/b")
    models.register(tmp_path, Path("/c"))
    assert models.resolve(tmp_path, "old") == Model("/a/b")


def test_a_model_that_cannot_be_read_costs_no_other(tmp_path):
    lora = {"path": "/a", "loras": [["/ink.safetensors", None]]}  # as NaN is written
    (tmp_path / models.FILE_NAME).write_text(json.dumps({"bad": lora, "worse": 1, "good": {"path": "/b"}}))
    assert models.known(tmp_path) == ["builtin", "good"]
    models.add(tmp_path, Model("/c"), "new")
    assert models.resolve(tmp_path, "good") == Model("/b")


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[1]", b'{"a": 1}', b'{"a": {"vae": "/b"}}'])
def test_what_is_not_registered_is_refused(tmp_path, damage):
    if damage is not None:
        (tmp_path / models.FILE_NAME).write_bytes(damage)
    assert models.resolve(tmp_path, "builtin") == Model("builtin")
    with pytest.raises(ProtocolError, match="knows no model '/etc'"):
        models.resolve(tmp_path, "/etc")
    name = models.register(tmp_path, Path("/a/b"))
    assert models.resolve(tmp_path, name) == Model(str(Path("/a/b")))
