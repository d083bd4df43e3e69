"""vegeta targets: whole requests without instants, spaced as asked."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from capture.failures import BadInput
from capture.importers.pending_trace import write_pending
from capture.importers.vegeta import open_vegeta
from capture.privacy.credential_names import REDACTED
from capture.redaction import RedactionPolicy
from capture.trace_reader import open_trace

BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
TARGET: dict[str, Any] = {
    "method": "POST",
    "url": "http://h:81/v1/chat/completions?a=b",
    "body": base64.b64encode(BODY).decode(),
    "header": {"Content-Type": ["application/json"], "Authorization": ["Bearer hush"], "Via": ["1", "2"]},
}


def targets(folder: Path, *lines: Any) -> Path:
    path = folder / "targets.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def rows_of(source: Path, rate: float = 50) -> list[dict[str, Any]]:
    output = source.with_name("t.parquet")
    write_pending(open_vegeta(source, RedactionPolicy(), rate=rate), output, overwrite=True)
    return [row for batch in open_trace(output).iter_batches() for row in batch.to_pylist()]


def test_a_target_becomes_a_request(tmp_path: Path) -> None:
    (row,) = rows_of(targets(tmp_path, TARGET))
    assert (row["method"], row["scheme"], row["host"]) == ("POST", "http", "h:81")
    assert (row["path"], row["request_body"]) == ("/v1/chat/completions?a=b", BODY)
    assert (row["model"], row["stream"], row["status"]) == ("m", True, None)
    pairs = [(header["name"], header["value"]) for header in row["request_headers"]]
    assert pairs == [
        ("Content-Type", "application/json"),
        ("Authorization", REDACTED),
        ("Via", "1"),
        ("Via", "2"),
    ]


def test_requests_are_spaced_as_asked_and_that_is_told(tmp_path: Path) -> None:
    rows = rows_of(targets(tmp_path, TARGET, "", {"method": "GET", "url": "http://h/"}, TARGET), rate=4)
    assert [row["arrival_ns"] for row in rows] == [0, 250_000_000, 500_000_000]
    assert rows[1]["request_body"] == b""
    notes = open_trace(tmp_path / "t.parquet").metadata.notes
    assert any("hold no instants: arrivals are even, 4 a second" in note for note in notes)


def test_gzipped_targets_are_read_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "targets.jsonl.gz"
    source.write_bytes(gzip.compress(json.dumps(TARGET).encode()))
    assert len(rows_of(source)) == 1


BROKEN = {
    "plain format": ("GET http://h/", ":2: 'GET http://h/' found, a whole JSON object wanted"),
    "no URL": ({"method": "GET"}, ":2: 'GET' None found (no method or URL)"),
    "no http": ({"method": "GET", "url": "ftp://h/"}, "(URL not http(s))"),
    "no base64": (TARGET | {"body": "{}"}, ":2: field body: '{}' found, base64 wanted"),
    "header without lists": (TARGET | {"header": {"A": "b"}}, ":2: field header: {'A': 'b'} found"),
    "header as a list": (TARGET | {"header": ["A"]}, ":2: field header: ['A'] found"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_source_gives_one_line_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    line, wanted = BROKEN[name]
    with pytest.raises(BadInput) as caught:
        rows_of(targets(tmp_path, TARGET, line))
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [left.name for left in tmp_path.iterdir()] == ["targets.jsonl"]
