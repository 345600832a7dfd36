"""Checkpoints by name."""

import stat
from pathlib import Path

import pytest

from protocol import models
from protocol.errors import ProtocolError


def test_a_registered_folder_is_found_by_its_name(tmp_path):
    home, folder = tmp_path / "home", tmp_path / "my models" / "stable diffusion"
    name = models.register(home, folder)
    assert name.startswith("stable-diffusion-") and "/" not in name
    assert models.resolve(home, name) == str(folder)
    assert models.register(home, folder) == name
    assert models.known(home) == ["builtin", name]
    assert stat.S_IMODE((home / models.FILE_NAME).stat().st_mode) == 0o600


def test_folders_of_one_name_are_told_apart(tmp_path):
    first, second = (models.register(tmp_path, Path(place) / "unet") for place in ("/a", "/b"))
    assert first != second
    assert {models.resolve(tmp_path, name) for name in (first, second)} == {str(Path("/a/unet")), str(Path("/b/unet"))}


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[1]"])
def test_what_is_not_registered_is_refused(tmp_path, damage):
    if damage is not None:
        (tmp_path / models.FILE_NAME).write_bytes(damage)
    assert models.resolve(tmp_path, "builtin") == "builtin"
    with pytest.raises(ProtocolError, match="knows no model '/etc'"):
        models.resolve(tmp_path, "/etc")
    name = models.register(tmp_path, Path("/a/b"))
    assert models.resolve(tmp_path, name) == str(Path("/a/b"))
