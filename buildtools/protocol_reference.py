"""The reference of the protocol, made from its types: `python build.py protocol` writes protocol/README.md, and the
schema of farm jobs.

Runs in the engine's environment, as it looks at the types themselves; what they are for stands in their sources, as
docstrings of classes and of single fields.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import inspect as types

from protocol import PROTOCOL_VERSION, errors, farm_job, limits, messages, settings, tuning, wire

README = Path(__file__).resolve().parent.parent / "protocol" / "README.md"
FARM_JOB = README.parents[1] / "docs" / "farm-job.schema.json"
ALIASES = {name: types.type_info(getattr(messages, name)) for name in ("BlobName", "JobId", "Count")}
PARTS = (
    messages.JobStatus,
    messages.Failure,
    messages.WordSeen,
    messages.SoftMask,
    messages.Missing,
    settings.EditSettings,
    settings.Window,
    tuning.Tuning,
)
"""What messages are made of, beside plain values."""

CHART = """\
sequenceDiagram
    participant C as Client (DEALER)
    participant E as Engine (ROUTER)
    Note over C,E: CURVE: the client knows the engine's key, the engine the client's
    C->>E: Hello(versions)
    E-->>C: Welcome(version, models, limits)
    loop while further frames are exported (where limits name offered_blobs)
        C->>E: Offer(some frames by their SHA-256)
        E-->>C: Wanted(missing blobs, from which byte on)
        C->>E: Upload(blob, size, offset) + chunk
        E-->>C: Stored(blob, received)
    end
    C->>E: Submit(job_id, settings, frames by their SHA-256)
    E-->>C: Wanted(what is still missing)
    par at most TRANSFER_WINDOW chunks without an answer
        C->>E: Upload(blob, size, offset) + chunk
        E-->>C: Stored(blob, received)
    end
    C->>E: Submit(the same)
    Note over E: in the journal, on disk
    E--xC: Job(queued): this answer is lost
    C->>E: Submit(the same again, after some seconds)
    E-->>C: Job(status): the same job, found and not made twice
    loop every step
        E-)C: Event(status): a hint
    end
    C->>E: Query(job_id, preview)
    E-->>C: Job(status)
    E-)C: Preview(frames) + small pictures: a hint, once for each Query that asks for it
    opt Event or Job says that frames are written
        C->>E: Query(job_id, frames_from)
        E-->>C: Job(running, names of some of them), to be read as below
    end
    Note over C,E: the line is cut, or Blender is closed: the job goes on
    C->>E: Hello(versions)
    E-->>C: Welcome
    C->>E: Query(job_id)
    E-->>C: Job(done, names of frames and masks)
    par at most TRANSFER_WINDOW chunks without an answer
        C->>E: Read(blob, offset)
        E-->>C: Piece(blob, size, offset) + chunk
    end
    Note over C: verified, written, renamed into place
    C->>E: Taken(job_id)
    E-->>C: Job(taken): the engine may drop the result some day
"""

INTRODUCTION = f"""\
# The protocol

*Version {PROTOCOL_VERSION}. Made from the types in this folder by `python build.py protocol`; do not edit it by hand.*

Blender's add-on (the client) and the engine speak over one ZeroMQ connection: a DEALER at the client, a ROUTER at the
engine, always under CURVE. Requests carry a number, and their answer carries the same one. A request may be repeated: what
it asks for is then found done, so a lost answer costs nothing. Frames travel as *blobs*: files' bytes, named by their
SHA-256, in chunks that wait for each other's answers. No path, no pickle and no archive is ever sent.

**Contents:** [bytes](#bytes) · [one job](#one-job) · [requests](#requests-and-their-answers) · [messages](#messages) ·
[parts](#parts-of-messages) · [errors](#errors) · [limits](#limits)

## Bytes

A message is one ZeroMQ part, the header, and at most {limits.MAX_BUFFERS} more: a chunk of a blob, or the pictures of a preview.

| Bytes of the header | |
| --- | --- |
| {len(wire.MAGIC)} | `{wire.MAGIC.decode()}` |
| 1 | the version: {wire.HANDSHAKE_VERSION} for `Hello`, `Welcome` and `Refusal`, which never change their shape; else {PROTOCOL_VERSION} |
| the rest | a map in [MessagePack](https://msgpack.org): `type`, which is the message's name in small letters, `request`, \
and the fields below |

A field that is not known is passed over, one that is absent has its default. All sizes are checked before anything is decoded.
In the handshake of CURVE the engine ends with status {wire.STATUS_ALLOWED}, or {wire.STATUS_UNKNOWN_KEY} (it does not know the \
client's key) or {wire.STATUS_TOO_MANY} (it has as many connections as it takes).

## One job

```mermaid
{CHART}```
"""


def reference() -> str:
    """The whole page."""
    kinds = get_args(messages.AnyMessage)
    requests = [kind for kind in kinds if _answers(kind)]
    lines = [INTRODUCTION, "## Requests and their answers\n"]
    lines.append(_table(("Request", "Answer", "What it asks for"), [_request(kind) for kind in requests]))
    refused = (
        "Any request may be answered by [`Refusal`](#refusal) instead. [`Event`](#event) and [`Preview`](#preview) come "
        "without a request."
    )
    lines += [refused + "\n", "## Messages\n"]
    lines.append(
        "Each has the field `request` (`Count`) besides: the number of the request, or of the one that is answered.\n"
    )
    lines += [_section(kind) for kind in kinds]
    lines.append("## Parts of messages\n")
    named = [(f"`{name}`", _type(info, named=False), _first(_description(info))) for name, info in ALIASES.items()]
    lines.append(_table(("Name", "Type", "What it is"), named))
    lines += [_section(part) for part in PARTS]
    lines.append("## Errors\n")
    lines.append(
        "A refusal, as every error that a client raises, has a code for programs, and a sentence and a remedy for people.\n"
    )
    lines.append(_table(("Code", "What it stands for"), [(f"`{code}`", text) for code, text in errors.CODES.items()]))
    lines.append(
        "A job that fails, and a checkpoint that cannot work, have codes of their own, with a sentence and a remedy as well.\n"
    )
    lines.append("## Limits\n")
    lines.append(
        "Both sides check them, and the engine does before it allocates anything; what is over one is refused by its name.\n"
    )
    lines.append(_table(("Limit", "Value", "Of what"), _limits()))
    return "\n".join(lines).rstrip() + "\n"


def _section(kind: type[msgspec.Struct]) -> str:
    """One struct: what it is for, and its fields."""
    documented = _field_docstrings(kind)
    rows = []
    for field in types.type_info(kind).fields:
        if field.name != "request":
            rows.append((f"`{field.name}`", _type(field.type), _default(field), _flat(documented.get(field.name, ""))))
    text = f"### {kind.__name__}\n\n{_linked(inspect.cleandoc(kind.__doc__))}\n"
    if not rows:
        return text
    header = ("Field", "Type", "Default", "Meaning")
    kept = [at for at in range(len(header)) if any(row[at] for row in rows)]
    return f"{text}\n{_table([header[at] for at in kept], [[row[at] for at in kept] for row in rows])}"


def _request(kind: type) -> tuple[str, str, str]:
    answers = ", ".join(f"[`{name}`](#{name.lower()})" for name in _answers(kind))
    asks = re.sub(r"[;,] answered with `\w+`", "", _first(kind.__doc__))
    return f"[`{kind.__name__}`](#{kind.__name__.lower()})", answers, asks


def _answers(kind: type) -> list[str]:
    """Messages that answer this one, by its own words or by theirs."""
    said = re.findall(r"`([A-Z]\w+)`", " ".join(re.findall(r"[Aa]nswered with ([^.]*)", _flat(kind.__doc__))))
    names = [found.__name__ for found in get_args(messages.AnyMessage)]
    theirs = [
        found.__name__
        for found in get_args(messages.AnyMessage)
        if f"`{kind.__name__}`" in "".join(re.findall(r"^Answer to .*?[.:]", _flat(found.__doc__)))
    ]
    return [name for name in dict.fromkeys([*said, *theirs]) if name in names]


def _field_docstrings(kind: type) -> dict[str, str]:
    """The strings that stand behind fields in a class's source."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    found = {}
    for field, after in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[field.target.id] = after.value.value
    return found


def _limits() -> list[tuple[str, str, str]]:
    """Every limit, its value and what it is a limit of."""
    body = ast.parse(inspect.getsource(limits)).body
    rows = []
    for assigned, after in pairwise(body):
        if isinstance(assigned, ast.Assign) and isinstance(after, ast.Expr):
            name = assigned.targets[0].id
            rows.append((f"`{name}`", _number(name, getattr(limits, name)), _flat(after.value.value)))
    return rows


def _number(name: str, value: int) -> str:
    if "BYTES" in name:
        return f"{value // limits.MIB} MiB" if value % limits.MIB == 0 else f"{value // limits.KIB} KiB"
    return f"{value:,}".replace(",", " ")


def _type(info: types.Type, named: bool = True) -> str:
    """A type as people write it, its constraints with it."""
    while isinstance(info, types.Metadata):
        info = info.type
    if named:
        for name, alias in ALIASES.items():
            if _bare(alias) == info:
                return f"`{name}`"
    match info:
        case types.StructType(cls=cls):
            return f"[`{cls.__name__}`](#{cls.__name__.lower()})"
        case types.ListType(item_type=item) | types.VarTupleType(item_type=item):
            return f"list of {_type(item)}{_bounds(info)}"
        case types.DictType(key_type=key, value_type=value):
            return f"map of {_type(key)} to {_type(value)}"
        case types.UnionType(types=members):
            return " or ".join(_type(member) for member in members)
        case types.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case types.NoneType():
            return "nil"
        case types.StrType(pattern=pattern) if pattern:
            return f"string like `{pattern.removeprefix(chr(92) + 'A').removesuffix(chr(92) + 'Z')}`"
    plain = {"str": "string", "int": "integer", "float": "float", "bool": "boolean"}
    name = type(info).__name__.removesuffix("Type").lower()
    return plain[name] + _bounds(info)


def _bounds(info: types.Type) -> str:
    words = {
        "ge": "≥ {}",
        "gt": "> {}",
        "le": "≤ {}",
        "lt": "< {}",
        "min_length": "at least {}",
        "max_length": "at most {}",
    }
    found = [(text, getattr(info, name, None)) for name, text in words.items()]
    shown = [text.format("2⁶²" if value == 2**62 else f"{value:g}") for text, value in found if value is not None]
    return f", {', '.join(shown)}" if shown else ""


def _bare(info: types.Type) -> types.Type:
    return info.type if isinstance(info, types.Metadata) else info


def _description(info: types.Type) -> str:
    extra = info.extra_json_schema if isinstance(info, types.Metadata) else None
    return (extra or {}).get("description", "")


def _default(field: types.Field) -> str:
    if field.required:
        return ""
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return "nil" if value is None else f"`{msgspec.json.encode(value).decode()}`"


def _first(docstring: str) -> str:
    """The first sentence."""
    return re.split(r"(?<=[.?])\s", _flat(docstring), maxsplit=1)[0]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _linked(text: str) -> str:
    """The text, with the names of messages and parts as links."""
    names = {kind.__name__ for kind in (*get_args(messages.AnyMessage), *PARTS)}
    return re.sub(
        r"`(\w+)`", lambda found: f"[{found[0]}](#{found[1].lower()})" if found[1] in names else found[0], text
    )


def _table(header: tuple[str, ...] | list[str], rows: list) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    README.write_text(reference(), encoding="utf-8")
    FARM_JOB.write_text(json.dumps(farm_job.schema(), indent=2) + "\n", encoding="utf-8")
    print(README, FARM_JOB, sep="\n")
