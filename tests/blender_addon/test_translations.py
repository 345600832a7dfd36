"""Every word that the add-on shows has its German one, and says it with the same values."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator

import bpy
import pytest

from tests.blender_addon.conftest import ROOT

NOT_SHOWN = {
    "Sequencer", "Preview", "SequencerPreview", "Operator",  # names of Blender's own
    "Blender", "Blender (test)", "FateZero client", "FateZero installer", "FateZero trial", "FateZero checkpoints",
    "Scripts/python.exe", "AppData", "Local", "Programs", "Python", "Another engine already serves ",
    "Installing collected packages", "FateZero Export", "Standard", "None", "Progress ", "OWNER/NAME", "Using cached", "FateZero",
    "Blender (status)", "ModelViewProjectionMatrix",
}  # fmt: skip
"""Strings that look like words for people and are none."""
_MARKS = ("iface_", "rpt_", "tip_")
"""Functions whose argument is looked up in the dictionary, however it looks."""


def shown_words() -> dict[str, str]:
    """What the sources hold that people may read, and the file that holds it."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "blender_addon").rglob("*.py")):
        if path.parent.name == "translations":
            continue
        for text in _words(ast.parse(path.read_text("utf-8"))):
            found.setdefault(text, path.relative_to(ROOT / "blender_addon").as_posix())
    return {text: file for text, file in found.items() if text not in NOT_SHOWN}


def _words(tree: ast.Module) -> Iterator[str]:
    silent = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(node.value)  # documentation
        if isinstance(node, ast.JoinedStr):
            silent |= set(ast.walk(node))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "bpy.types.Operator" for base in node.bases):
            yield ast.get_docstring(node)  # its tooltip
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("log.", "re.", "_TOKENS")):
            silent |= set(ast.walk(node))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _MARKS and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and node not in silent else None
        if isinstance(text, str) and _is_for_people(text):
            yield text


def _is_for_people(text: str) -> bool:
    """Whether it begins as labels and sentences do."""
    return bool(re.match(r"['{]?[A-Z{][a-z']|A |[A-Z]{3,} [A-Z]", text)) and not re.search(r"[_\\]|^\{\w+\}$", text)


def fields(text: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(text) if name}


@pytest.fixture(scope="module")
def german(addon) -> dict[str, str]:
    return addon.translations.de.WORDS


def test_nothing_lacks_its_german(german):
    missing = {text: file for text, file in shown_words().items() if text not in german}
    lines = "".join(f"    # {file}\n    {text!r}: '',\n" for text, file in missing.items())
    assert not missing, (
        f"blender_addon/translations/de.py lacks {len(missing)} entries (or NOT_SHOWN does, where nobody reads them):\n"
        + lines
    )


def test_nothing_is_translated_that_is_gone(german):
    gone = german.keys() - shown_words().keys()
    assert not gone, f"blender_addon/translations/de.py holds what the add-on no longer says: {sorted(gone)}"


def test_the_same_values_are_named(german):
    assert {text for text, theirs in german.items() if fields(text) != fields(theirs)} == set()
    assert all(theirs.strip() for theirs in german.values())


def test_all_that_blender_knows_of_us_is_in_the_dictionary(addon, german):
    """Names and tooltips as they are registered: also what the sources put together."""
    kinds = [getattr(bpy.ops.fatezero, name).get_rna_type() for name in dir(bpy.ops.fatezero)]
    kinds += [addon.properties.FATEZERO_PG_settings.bl_rna, addon.preferences.FATEZERO_AP_preferences.bl_rna]
    kinds += [addon.work.FATEZERO_PG_work.bl_rna, addon.preview.settings.FATEZERO_PG_view.bl_rna]
    lacking, told = set(), 0
    for kind in kinds:
        texts = [kind.name, kind.description] if kind.identifier.startswith("FATEZERO_OT") else []
        for prop in kind.properties:
            if prop.identifier in ("rna_type", "name", "bl_idname") or prop.is_hidden:
                continue
            assert prop.description, (kind.identifier, prop.identifier)
            texts += [prop.name, prop.description]
            if prop.type == "ENUM":
                texts += [text for item in prop.enum_items for text in (item.name, item.description)]
        told += len(texts)
        lacking |= {text for text in texts if text and text not in german and not (text in NOT_SHOWN)}
    assert told > 100 and lacking == set()


def test_tooltips_are_one_line(addon):
    for name in dir(bpy.ops.fatezero):
        kind = getattr(bpy.ops.fatezero, name).get_rna_type()
        assert kind.description and "\n" not in kind.description and len(kind.description) <= 120, name
