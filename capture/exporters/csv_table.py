"""Traces → CSV, one line per request: everything but headers, bodies and chunks."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final, TextIO

from capture.exporters.export_file import ExportFormat, Losses, Row
from capture.trace_format import MESSAGES, TRACE_SCHEMA, TraceMetadata

_WIDE: Final = MESSAGES | {
    *("request_headers", "request_body", "response_headers", "response_body", "chunk_ns", "chunk_bytes"),
}
COLUMNS: Final = tuple(name for name in TRACE_SCHEMA.names if name not in _WIDE)
EPOCH: Final = "arrival_epoch_ns"
"""The one column that a trace hasn't: the arrival on the wall clock, ns since 1970."""


def write_csv(file: TextIO, rows: Iterator[Row], metadata: TraceMetadata, losses: Losses) -> int:
    """Write a header and a line per row; null is an empty cell, empty text is ""; how many rows."""
    table = csv.writer(file, quoting=csv.QUOTE_STRINGS, lineterminator="\n")
    table.writerow([*COLUMNS, EPOCH])
    written = 0
    for row in rows:
        row["stream"] = "true" if row["stream"] else "false"
        table.writerow([*(row[name] for name in COLUMNS), metadata.wall_zero_ns + row["arrival_ns"]])
        written += 1
    return written


CSV: Final = ExportFormat("CSV", frozenset(COLUMNS), write_csv)
