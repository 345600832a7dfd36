"""protocol/README.md is what the types say, and the types say all that it needs."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from buildtools import protocol_reference
from protocol import messages
from protocol.errors import CODES

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_is_not_stale():
    written = protocol_reference.README.read_text(encoding="utf-8")
    assert written == protocol_reference.reference(), "`python build.py protocol` writes it anew"


def test_every_message_is_a_request_or_an_answer_to_one():
    kinds = get_args(messages.AnyMessage)
    requests = {kind.__name__: protocol_reference._answers(kind) for kind in kinds if protocol_reference._answers(kind)}
    answers = {name for names in requests.values() for name in names}
    assert {kind.__name__ for kind in kinds} == requests.keys() | answers | {"Refusal", "Event", "Preview"}
    assert not requests.keys() & answers
    assert requests["Submit"] == ["Wanted", "Job"]


@pytest.mark.parametrize("name", ["BlobName", "EditSettings", "TRANSFER_WINDOW", "no-such-job", "mermaid"])
def test_it_speaks_of_all_parts(name):
    assert name in protocol_reference.reference()


def test_links_lead_somewhere():
    page = protocol_reference.reference()
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
    targets = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert targets and targets <= headings


def test_every_code_that_is_raised_is_explained():
    raised = set()
    for path in [*(ROOT / "protocol").rglob("*.py"), *(ROOT / "engine" / "service").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ProtocolError":
                raised |= {word.value for word in ast.walk(node.args[0]) if isinstance(word, ast.Constant)}
    assert {code for code in raised if isinstance(code, str)} <= CODES.keys()
    assert CODES.keys() - raised <= {"disk-full", "cannot-write"}, "these two are chosen by the system's error"
