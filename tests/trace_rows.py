"""Rows and files of traces for tests: the least a valid row needs, and what a test wants different."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from capture.trace_format import TraceMetadata
from capture.trace_writer import batch_of, write_trace


def trace_row(number: int, arrival_ns: int, **changes: Any) -> dict[str, Any]:
    """A complete POST with a small JSON body, `changes` laid over it."""
    return {
        "request_id": f"r{number}",
        "session_id": None,
        "turn": 0,
        "arrival_ns": arrival_ns,
        "method": "POST",
        "scheme": "http",
        "host": "production.test:80",
        "path": "/v1/embeddings",
        "http_version": "HTTP/1.1",
        "request_headers": [("content-type", "application/json")],
        "request_body": b'{"model": "demo-embed", "input": "a word or two"}',
        "request_body_ns": arrival_ns,
        "outcome": "complete",
        "status": 200,
        "response_bytes": 0,
        "chunk_ns": [],
        "chunk_bytes": [],
        "stream": False,
    } | changes


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], *, wall_zero_ns: int = 0, **metadata: Any
) -> Path:
    """Write rows as a trace file; its path."""
    about = TraceMetadata(wall_zero_ns=wall_zero_ns, source="test", **metadata)
    write_trace(path, [batch_of([dict(row) for row in rows])], about)
    return path
