"""The engine's log: one JSON object a line, so that programs can read it, and lines of text where people do."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 1024 * 1024
"""Of each log; a longer one is put aside as the one before."""
PLAIN = "%(asctime)s %(levelname)s %(message)s"
"""For the worker, whose log holds what libraries print as well."""
_OWN = logging.LogRecord("", 0, "", 0, "", None, None).__dict__.keys() | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """`time`, `level`, `event`, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {name: value for name, value in record.__dict__.items() if name not in _OWN and value is not None}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def rotating(path: Path) -> logging.Handler:
    """A handler that writes such lines to `path`, and to the one before when it is full."""
    handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    return handler


def readable(lines: list[str]) -> Iterator[str]:
    """Lines of such a log as people read them; what is no such line comes as it is."""
    for line in lines:
        try:
            record = json.loads(line)
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.pop("time")))
            level, event = record.pop("level"), record.pop("event")
        except (ValueError, KeyError, AttributeError, TypeError):
            yield line.rstrip("\n")
            continue
        traceback = record.pop("traceback", "")
        facts = " ".join(f"{name}={value}" for name, value in record.items())
        yield f"{when} {level:7} {event} {facts}".rstrip()
        yield from traceback.splitlines()
