"""Log lines on stderr: for a person, or one JSON object a line, for all processes of a capture alike.

    {"time": …, "level": "warning", "event": "log", "message": …, "pid": …, more fields}

The processes learn the format from `FORMAT_VARIABLE`. What a line says is decided where it is said; a
traceback is never part of it, since it could show what no log may hold.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import time
from types import TracebackType
from typing import Any, Final

from capture.failures import where_it_failed

FORMAT_VARIABLE: Final = "PEAKTAPE_LOG_FORMAT"
_OURS: Final = "peaktape: "


def is_json() -> bool:
    """Whether this process and its children log as JSON."""
    return os.environ.get(FORMAT_VARIABLE) == "json"


def json_line(level: str, event: str, message: str, at_s: float, **fields: Any) -> str:
    """One log line; `at_s` is its instant in seconds since 1970."""
    instant = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    told = {
        "time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event,
        "message": message.removeprefix(_OURS),
        "pid": os.getpid(),
    }
    return json.dumps({**told, **fields}, default=str)


class JsonFormatter(logging.Formatter):
    """A log record as a JSON line; its logger's name is a field."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = where_it_failed(record.exc_info[1])
        return json_line(record.levelname.lower(), "log", record.getMessage(), record.created, **fields)


def stderr_handler() -> logging.Handler:
    """A handler that writes to stderr in this process's format; as JSON also what would end it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if is_json() else logging.Formatter("%(message)s"))
    if is_json():
        logging.captureWarnings(capture=True)
        sys.excepthook = _say_what_ends_us
    return handler


def _say_what_ends_us(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    message = f"ended by {where_it_failed(error)}"
    print(json_line("critical", "crashed", message, time.time()), file=sys.stderr)
