"""Which recorded requests can be sent again, and what of the command line may be written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replay_rig import request

from capture.failures import BadInput
from capture.trace_format import TraceMetadata
from capture.trace_reader import Trace, open_trace
from capture.trace_writer import batch_of, write_trace
from replay.cli.ordering import without_secrets
from replay.engine.survey import without_body
from replay.transform.plan import rows_of_trace


def trace_of(folder: Path, rows: list[dict[str, Any]]) -> Trace:
    write_trace(folder / "t.parquet", [batch_of(rows)], TraceMetadata(0, "test"))
    return open_trace(folder / "t.parquet")


def test_requests_whose_body_was_not_kept_are_left_out(tmp_path: Path) -> None:
    empty_get = request(1, 1) | {"method": "GET", "request_body": None, "request_headers": []}
    stated_empty = request(2, 2) | {"request_body": None, "request_headers": [("Content-Length", "0")]}
    not_kept = request(3, 3) | {"request_body": None, "request_headers": [("content-length", "9")]}
    streamed = request(4, 4) | {"request_body": None, "request_headers": [("transfer-encoding", "chunked")]}
    cut_off = request(5, 5) | {"outcome": "client_aborted", "request_body_ns": None}
    trace = trace_of(tmp_path, [request(0, 0), empty_get, stated_empty, not_kept, streamed, cut_off])
    rows, left_out = rows_of_trace(trace)
    assert rows.row.tolist() == [0, 1, 2]
    assert left_out == {"requests whose body never arrived whole": 3}


def test_what_http1_cannot_say_is_left_out_counted_and_named(tmp_path: Path) -> None:
    socket = request(1, 1) | {"status": 101, "message_ns": [5], "message_bytes": [2]}
    kind = [("Content-Type", "application/grpc+proto")]
    call = request(2, 2) | {"http_version": "HTTP/2.0", "request_headers": kind}
    web = request(3, 3) | {"request_headers": [("content-type", "application/grpc-web+proto")]}
    http2 = request(4, 4) | {"http_version": "HTTP/2.0", "request_headers": [("content-type", "text/plain")]}
    bodiless = request(6, 6) | {"request_body": None, "request_bytes": 0}
    cut = request(5, 5) | {"request_body": None, "request_bytes": 9, "http_version": "HTTP/2.0"}
    trace = trace_of(tmp_path, [request(0, 0), socket, call, web, http2, cut, bodiless])
    rows, left_out = rows_of_trace(trace)
    assert rows.row.tolist() == [0, 3, 4, 6]
    assert left_out == {
        "WebSocket and other upgraded connections": 1,
        "gRPC calls": 1,
        "requests whose body never arrived whole": 1,
    }


def test_grpc_is_seen_where_every_body_is_kept(tmp_path: Path) -> None:
    kind = [("x", "y"), ("content-type", "application/grpc")]
    calls = [request(k, k) | {"http_version": "HTTP/2.0", "request_headers": kind} for k in (1, 3)]
    trace = trace_of(tmp_path, [request(0, 0), calls[0], request(2, 2), calls[1]])
    rows, left_out = rows_of_trace(trace)
    assert (rows.row.tolist(), left_out) == ([0, 2], {"gRPC calls": 2})


def test_requests_that_go_out_without_the_body_they_had_are_told_of(tmp_path: Path) -> None:
    logged = {"request_body": None, "request_bytes": None, "request_headers": []}
    get = request(1, 1) | logged | {"method": "GET"}
    empty = request(2, 2) | logged | {"request_bytes": 0}
    trace = trace_of(tmp_path, [request(0, 0), get, empty, *(request(n, n) | logged for n in (3, 4))])
    assert len(rows_of_trace(trace)[0]) == 5
    assert without_body(trace) == (2, 5)
    assert without_body(trace, 4) == (1, 4)


def test_bodies_are_looked_at_only_where_some_are_missing(tmp_path: Path) -> None:
    assert not trace_of(tmp_path, [request(0, 0)]).may_lack("request_body")


def test_a_trace_without_a_whole_request_is_refused(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, [request(0, 0) | {"outcome": "in_flight", "request_body_ns": None}])
    with pytest.raises(BadInput, match="left out 1 requests whose body never arrived whole"):
        rows_of_trace(trace)


def test_header_values_of_the_command_line_are_not_written_into_the_run() -> None:
    given = ["replay", "t", "--header", "x-key: secret", "--header=x-other: secret", "--label", "a=b"]
    shown = without_secrets(given)
    assert "secret" not in " ".join(shown)
    assert shown == (
        *("replay", "t", "--header", "x-key: REDACTED", "--header=x-other: REDACTED"),
        *("--label", "a=b"),
    )
