"""`python -m engine verify`: the authors' numbers against this engine's."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ..verify import report, verify
from . import run


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m engine verify", description=__doc__)
    parser.add_argument("case", type=Path, metavar="CASE.safetensors")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(argv)

    def command() -> None:
        result = verify(options.case, options.checkpoint, options.device)
        print(report(result))
        if options.json:
            print(json.dumps(asdict(result)))

    return run(command)
