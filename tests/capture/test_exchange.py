"""An exchange: whatever events come in, in whatever order, exactly one row comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.blame import blame
from capture.copied_body import BODY_COPY_LIMIT_BYTES
from capture.exchange import Exchange, RequestHead
from capture.trace_format import OUTCOMES, TRACE_SCHEMA
from capture.trace_writer import batch_of

HEAD = RequestHead("POST", "http", "127.0.0.1:8000", "/v1?x=1", "HTTP/1.1", [("Host", "h"), ("x", "1")])


def opened() -> Exchange:
    return Exchange("r1", HEAD, arrival_ns=100)


def test_a_complete_exchange_keeps_every_instant_and_byte() -> None:
    exchange = opened()
    exchange.whole(b"question", 110)
    exchange.answered(200, [("content-type", "text/event-stream")], 120)
    exchange.take(b"one", 130, read=1)
    exchange.take(b"two", 131, read=1)
    exchange.take(b"three", 140, read=2)
    exchange.finish(150)
    row = exchange.row()
    assert (row["outcome"], row["status"], row["error"]) == ("complete", 200, None)
    assert row["request_body"] == b"question"
    assert row["response_body"] == b"onetwothree"
    assert (row["chunk_ns"], row["chunk_bytes"]) == ([130, 140], [6, 5]), "one read is one chunk"
    instants = (row["arrival_ns"], row["request_body_ns"], row["first_byte_ns"], row["end_ns"])
    assert instants == (100, 110, 120, 150)


def test_the_row_has_exactly_the_columns_of_the_schema() -> None:
    exchange = opened()
    exchange.cut_off()
    assert list(exchange.row()) == TRACE_SCHEMA.names
    assert batch_of([exchange.row()]).num_rows == 1


def test_there_is_no_row_before_the_end() -> None:
    with pytest.raises(ValueError, match="r1"):
        opened().row()


def test_a_response_too_large_to_copy_is_counted_without_a_body() -> None:
    exchange = opened()
    exchange.answered(200, [], 1)
    piece = bytes(1 << 20)
    for _ in range(BODY_COPY_LIMIT_BYTES // len(piece) + 2):
        exchange.take(piece, 2, read=2)
    exchange.finish(3)
    assert exchange.row()["response_body"] is None
    assert exchange.row()["response_bytes"] == BODY_COPY_LIMIT_BYTES + 2 * len(piece)
    assert exchange.answer.held_bytes < 1000


@pytest.mark.parametrize(
    ("message", "whole", "left", "outcome", "status"),
    [
        ("Client disconnected.", True, True, "client_aborted", None),
        ("stream reset by client (CANCEL)", True, True, "client_aborted", None),
        ("stream reset by client (CANCEL)", True, False, "server_error", 502),
        ("HTTP/1 protocol error: peer closed connection without …", False, True, "client_aborted", None),
        ("HTTP/1 protocol error: peer closed connection without …", True, False, "server_error", 502),
        ("server closed connection", True, False, "server_error", 502),
        ("[Errno 111] Connection refused", True, False, "server_error", 502),
        ("Received both a Transfer-Encoding and a Content-Length", False, True, "proxy_error", 400),
        ("Connection killed.", True, False, "proxy_error", None),
        ("Request body exceeds mitmproxy's body_size_limit.", False, False, "proxy_error", 413),
    ],
)
def test_blame(message: str, whole: bool, left: bool, outcome: str, status: int | None) -> None:
    failure = blame(message, request_is_whole=whole, client_left=left)
    assert (failure.outcome, failure.status) == (outcome, status)


EVENTS: dict[str, Any] = {
    "whole": lambda exchange: exchange.whole(b"q", 2),
    "answered": lambda exchange: exchange.answered(200, [], 3),
    "take": lambda exchange: exchange.take(b"piece", 4, 4),
    "finish": lambda exchange: exchange.finish(5),
    "fail": lambda exchange: exchange.fail("Client disconnected.", 6, client_left=True),
    "cut_off": lambda exchange: exchange.cut_off(),
}


@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=12))
def test_any_sequence_of_events_settles_on_one_row_that_never_changes(names: list[str]) -> None:
    exchange = opened()
    first = None
    for name in names:
        EVENTS[name](exchange)
        if exchange.closed:
            row = exchange.row()
            assert first is None or row == first
            first = row
    assert exchange.closed == any(name in ("finish", "fail", "cut_off") for name in names)
    if first is not None:
        assert first["outcome"] in OUTCOMES
        assert sum(first["chunk_bytes"]) == first["response_bytes"]
        assert len(first["chunk_bytes"]) == len(first["chunk_ns"])


@given(st.lists(st.integers(0, 300), min_size=8, max_size=8))
def test_no_direction_runs_backwards_whatever_instants_its_events_have(at_ns: list[int]) -> None:
    """What came is told with the instant at which it did, which may lie before an earlier event's."""
    exchange = opened()
    exchange.streamed = True
    exchange.ask(b"ques", at_ns[0], read=1)
    exchange.ask(b"tion", at_ns[1], read=2)
    exchange.whole(None, at_ns[2])
    exchange.answered(200, [], at_ns[3])
    for read in range(3):
        exchange.take(b"word", at_ns[4 + read], read)
    exchange.finish(at_ns[7])
    row = exchange.row()
    asked = [row["arrival_ns"], *row["request_chunk_ns"], row["request_body_ns"]]
    answered = [row["arrival_ns"], row["first_byte_ns"], *row["chunk_ns"], row["end_ns"]]
    assert asked == sorted(asked)
    assert answered == sorted(answered)
    for given_ns, noted_ns in zip(at_ns, (*asked[1:], *answered[1:]), strict=True):
        assert noted_ns >= given_ns
