"""What a trace's first requests lack for being sent, or rewritten, as those that they were.

A look at a few hundred of them before anything is made or fired; what then is done or said, the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from capture.semantics import json_body
from capture.trace_reader import Trace
from replay.engine.prompt_texts import prompts_in

SURVEYED_ROWS: Final = 500
_WITH_BODIES: Final = frozenset({"POST", "PUT", "PATCH"})


def without_text(trace: Trace, rows: int = SURVEYED_ROWS) -> tuple[int, int]:
    """How many of the trace's first `rows` requests hold no text that could be rewritten, and of how many."""
    found = looked_at = 0
    for row in _first(trace, ["request_headers", "request_body"], rows):
        headers = [(pair["name"], pair["value"]) for pair in row["request_headers"]]
        request = json_body(row["request_body"], headers)
        found += not (isinstance(request, dict) and prompts_in(request))
        looked_at += 1
    return found, looked_at


def without_body(trace: Trace, rows: int = SURVEYED_ROWS) -> tuple[int, int]:
    """How many of the trace's first `rows` requests are sent without the body that they had, and of how many.

    By their method they had one, and nobody knows how long: an access log doesn't say. Those of which a trace
    knows that they had one are not replayed.
    """
    found = looked_at = 0
    for row in _first(trace, ["method", "request_body", "request_bytes"], rows):
        unknown = row["request_body"] is None and row["request_bytes"] is None
        found += unknown and row["method"] in _WITH_BODIES
        looked_at += 1
    return found, looked_at


def _first(trace: Trace, columns: Sequence[str], rows: int) -> Iterator[dict[str, Any]]:
    step = min(rows, trace.rows_a_group)
    for start in range(0, min(rows, trace.rows), step):
        index = np.arange(start, min(start + step, rows, trace.rows))
        yield from trace.take(index, list(columns)).to_pylist()
