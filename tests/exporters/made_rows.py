"""Rows of every kind that a trace may hold, for the laws of round trips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from capture.trace_format import OUTCOMES, TraceMetadata
from capture.trace_reader import open_trace
from capture.trace_writer import batch_of, write_trace

LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=8)
# On the allow-list of headers: what is not loses its value on import.
NAMES = st.text("abcdf", min_size=1, max_size=6).map("x-ratelimit-".__add__)
HEADERS = st.lists(st.tuples(NAMES, LATIN), max_size=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
BODIES = st.none() | st.binary(max_size=20) | TEXT.map(lambda text: json.dumps({"a": text}).encode())
SPANS = st.none() | st.integers(0, 10**12)
COUNTS = st.none() | st.integers(0, 5000)


@st.composite
def rows(draw: Any, most: int = 4) -> list[dict[str, Any]]:
    """Up to `most` rows in order of arrival, the first one at the trace's zero."""
    arrivals = sorted(draw(st.lists(st.integers(0, 10**13), min_size=1, max_size=most)))
    return [draw(row(number, arrival - arrivals[0])) for number, arrival in enumerate(arrivals)]


@st.composite
def row(draw: Any, number: int, arrival_ns: int) -> dict[str, Any]:
    answered = draw(st.booleans())
    chunks = draw(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 2**31 - 1)), max_size=3))
    spans = [draw(SPANS) for _ in range(3)]
    instants = [None if span is None else arrival_ns + span for span in spans]
    return {
        "request_id": f"r{number}",
        "session_id": draw(st.none() | st.sampled_from(["a", "b"])),
        "turn": draw(st.integers(0, 3)),
        "arrival_ns": arrival_ns,
        "method": draw(st.sampled_from(["GET", "POST", "PURGE"])),
        "scheme": draw(st.sampled_from(["http", "https"])),
        "host": draw(st.sampled_from(["h:80", "h:443", "10.0.0.1:8000", "[::1]:81"])),
        "path": draw(st.sampled_from(["/", "/a?b=c&d", "/é#x", "*", "", "//x", "/a b", "/%2f?"])),
        "http_version": draw(st.sampled_from(["HTTP/1.1", "HTTP/2.0", "unknown"])),
        "request_headers": draw(HEADERS),
        "request_body": draw(BODIES),
        "request_body_ns": instants[0],
        "outcome": draw(st.sampled_from(OUTCOMES)),
        "error": draw(st.none() | TEXT),
        "status": draw(st.integers(100, 599)) if answered else None,
        "response_headers": draw(HEADERS) if answered else None,
        "response_body": draw(BODIES) if answered else None,
        "response_bytes": draw(st.integers(0, 10**9)),
        "first_byte_ns": instants[1],
        "chunk_ns": [arrival_ns + instant for instant, _ in chunks],
        "chunk_bytes": [size for _, size in chunks],
        "end_ns": instants[2],
        "input_tokens": draw(COUNTS),
        "output_tokens": draw(COUNTS),
        "model": draw(st.none() | TEXT),
        "stream": draw(st.booleans()),
        "connection": draw(st.none() | TEXT),
        "request_bytes": draw(st.none() | st.integers(0, 2**40)),
    }


def write_made(path: Path, made: list[dict[str, Any]], wall_zero_ns: int = 1_700_000_000_123_456_789) -> Path:
    """Write rows as a trace; its path."""
    write_trace(
        path, [batch_of(made)], TraceMetadata(wall_zero_ns=wall_zero_ns, source="test"), overwrite=True
    )
    return path


def read_back(path: Path) -> list[dict[str, Any]]:
    """The rows of a trace, headers as pairs."""
    found = [row for batch in open_trace(path).iter_batches() for row in batch.to_pylist()]
    for row in found:
        for name in ("request_headers", "response_headers"):
            if row[name] is not None:
                row[name] = [(pair["name"], pair["value"]) for pair in row[name]]
    return found
