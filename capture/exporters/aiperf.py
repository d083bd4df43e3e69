"""Traces → AIPerf's trace input with whole payloads: it sends each request's own body at its own instant.

Format: AIPerf 0.13, --custom-dataset-type mooncake_trace with `timestamp` (ms) and `payload`; run it with
--fixed-schedule. AIPerf sends to one endpoint, so the requests of one path make a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TextIO

from capture.exporters.export_file import ExportFormat, Losses, Row
from capture.exporters.lengths import instant
from capture.semantics import json_body
from capture.trace_format import TraceMetadata

HELD: Final = frozenset({"arrival_ns", "request_body", "output_tokens", "model", "stream", "method", "path"})


def aiperf(path: str) -> ExportFormat:
    """The format, for requests to `path` (without query)."""

    def write(file: TextIO, rows: Iterator[Row], _: TraceMetadata, losses: Losses) -> int:
        zero_ns, written = None, 0
        for row in rows:
            if row["method"] != "POST" or row["path"].partition("?")[0] != path:
                losses.left_out[f"requests that aren't POST {path}"] += 1
                continue
            payload = payload_of(row)
            if not payload:
                losses.left_out["requests whose body is no JSON object"] += 1
                continue
            zero_ns = row["arrival_ns"] if zero_ns is None else zero_ns
            line: dict[str, Any] = {"timestamp": instant(row["arrival_ns"] - zero_ns, 1_000_000)}
            if row["output_tokens"] is not None:
                line["output_length"] = row["output_tokens"]
            file.write(json.dumps(line | {"payload": payload}) + "\n")
            written += 1
        return written

    return ExportFormat("AIPerf", HELD, write)


def payload_of(row: Row) -> dict[str, Any] | None:
    """The request's body as a JSON object, or None."""
    found = json_body(row["request_body"], row["request_headers"])
    return found if isinstance(found, dict) else None
