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
from replay.transform.plan import schedule_of


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
    schedule, left_out = schedule_of(trace)
    assert schedule.row.tolist() == [0, 1, 2]
    assert left_out == 3


def test_bodies_are_looked_at_only_where_some_are_missing(tmp_path: Path) -> None:
    assert not trace_of(tmp_path, [request(0, 0)]).may_lack("request_body")


def test_a_trace_without_a_whole_request_is_refused(tmp_path: Path) -> None:
    trace = trace_of(tmp_path, [request(0, 0) | {"outcome": "in_flight", "request_body_ns": None}])
    with pytest.raises(BadInput, match="no request in it is whole"):
        schedule_of(trace)


def test_header_values_of_the_command_line_are_not_written_into_the_run() -> None:
    given = ["replay", "t", "--header", "x-key: secret", "--header=x-other: secret", "--label", "a=b"]
    shown = without_secrets(given)
    assert "secret" not in " ".join(shown)
    assert shown == (
        *("replay", "t", "--header", "x-key: REDACTED", "--header=x-other: REDACTED"),
        *("--label", "a=b"),
    )
