"""What a row means is read from its bytes; nothing is guessed, and broken bytes break nothing."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from capture.content_codings import decode_content
from capture.exchange import Exchange, RequestHead
from capture.semantics import _read_events, _Reading, fill_semantics
from capture.sessions import SessionFinder
from capture.sse import EventStream, parse_json, parse_large_json
from capture.trace_writer import batch_of


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def long_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:]),
    "deflate": zlib.compress,
    "Deflate": bare_deflate,
    "br": brotli.compress,
    "zstd": long_zstd,
}
TEXT = b"".join(b"data: event number %d\n\n" % number for number in range(20_000))


@pytest.mark.parametrize("coding", ENCODERS)
@given(data=st.binary(max_size=300))
def test_every_coding_is_taken_off(coding: str, data: bytes) -> None:
    assert decode_content(ENCODERS[coding](data), coding) == data


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_body_that_was_cut_off_decodes_as_far_as_it_goes(coding: str) -> None:
    encoded = ENCODERS[coding](TEXT)
    decoded = decode_content(encoded[: len(encoded) * 3 // 4], coding)
    assert decoded
    assert TEXT.startswith(decoded)


def test_several_codings_are_taken_off_in_turn() -> None:
    assert decode_content(brotli.compress(gzip.compress(TEXT)), "gzip, br") == TEXT
    assert decode_content(TEXT, None) == decode_content(TEXT, "identity") == TEXT


@pytest.mark.parametrize("coding", [*ENCODERS, "compress", "gzip, unheard-of"])
def test_bytes_in_another_coding_are_none(coding: str) -> None:
    assert decode_content(b"\x07plainly not compressed", coding) is None


@given(body=st.binary(max_size=200), coding=st.sampled_from([*ENCODERS, "", "nonsense"]))
def test_no_bytes_raise(body: bytes, coding: str) -> None:
    assert isinstance(decode_content(body, coding), bytes | None)


def filled(
    request: bytes = b"",
    response: bytes = b"",
    kind: str = "application/json",
    *,
    path: str = "/v1/chat/completions",
    coding: str | None = None,
    aborted: bool = False,
) -> dict[str, Any]:
    """A row after `fill_semantics`."""
    exchange = Exchange("r1", RequestHead("POST", "http", "h:1", path, "HTTP/1.1", []), 0)
    exchange.whole(request, 1)
    headers = [("Content-Type", kind)] + ([("Content-Encoding", coding)] if coding else [])
    exchange.answered(200, headers, 2)
    exchange.take(response, 3, 3)
    if aborted:
        exchange.fail("Client disconnected.", 9, client_left=True)
    else:
        exchange.finish(9)
    row = exchange.row()
    fill_semantics(row, SessionFinder())
    batch_of([row])
    return row


def tokens(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["stream"], row["input_tokens"], row["output_tokens"]


USAGE = {"prompt_tokens": 3, "completion_tokens": 4}
STREAM = (
    b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\ndata: '
    + json.dumps({"usage": USAGE, "choices": []}).encode()
)


def test_an_openai_answer() -> None:
    row = filled(b'{"model":"m"}', json.dumps({"model": "m-0613", "usage": USAGE}).encode())
    assert tokens(row) == ("m", False, 3, 4)


@pytest.mark.parametrize("coding", [None, "gzip", "br", "zstd"])
def test_an_openai_stream_whatever_its_coding(coding: str | None) -> None:
    body = STREAM + b"\n\ndata: [DONE]\n\n"
    encoded = body if coding is None else ENCODERS[coding](body)
    row = filled(b'{"model":"m","stream":true}', encoded, "text/event-stream", coding=coding)
    assert tokens(row) == ("m", True, 3, 4)


def test_an_anthropic_stream() -> None:
    events = [
        {
            "type": "message_start",
            "message": {"model": "c", "usage": {"input_tokens": 9, "output_tokens": 1}},
        },
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "usage": {"output_tokens": 6}},
        {"type": "message_stop"},
    ]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    row = filled(b"{}", body, "text/event-stream", path="/v1/messages", aborted=True)
    assert tokens(row) == ("c", True, 9, 6)
    assert row["outcome"] == "complete", "message_stop came: the client had its whole answer"


def test_without_usage_there_is_no_count() -> None:
    assert tokens(filled(b'{"model":"m"}', b'{"choices":[{"text":"some words"}]}')) == (
        "m",
        False,
        None,
        None,
    )


def test_a_model_may_stand_in_the_path_alone() -> None:
    assert filled(b'{"inputs":[]}', b"{}", path="/v2/models/fraud%20v2/infer")["model"] == "fraud v2"


def test_an_abort_after_done_is_complete_and_one_before_is_not() -> None:
    done = filled(b"{}", STREAM + b"\n\ndata: [DONE]\n\n", "text/event-stream", aborted=True)
    assert (done["outcome"], done["error"], done["end_ns"]) == ("complete", None, 3)
    early = filled(b"{}", STREAM, "text/event-stream", aborted=True)
    assert (early["outcome"], early["end_ns"]) == ("client_aborted", 9)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"{",
        b"[1]",
        b'{"model": 5, "messages": {"a": 1}}',
        b'{"model":"\\ud800","session_id":"\\ud800"}',
        b'{"usage":{"prompt_tokens":99999999999999}}',
        b'{"messages":[{"role":["x"],"content":{"a":"\\ud800"}},{"role":"assistant"}]}',
        b'{"choices":5,"usage":[],"delta":"x","output":[[]]}',
        b"[" * 100_000,
    ],
)
def test_odd_bodies_give_rows_that_can_be_written(body: bytes) -> None:
    row = filled(body, body)
    assert row["input_tokens"] is None
    row = filled(body, b"data: " + body + b"\n\n", "text/event-stream")
    assert row["stream"] is True


pieces = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["m", "content", 'say "', "back\\slash", "a", "a", "\n", "\x00", "\u2028", "\ud83d", "é"]
    ),
)


@given(
    st.lists(st.tuples(pieces, st.booleans(), st.sampled_from([None, "stop", "m"])), max_size=8),
    st.booleans(),
    st.sampled_from([b'\x00"}', b'"}', b"\xff", b"", b'\\"']),
)
def test_events_that_are_alike_are_read_as_if_each_were_parsed(
    said: list[tuple[str, bool, str | None]], compact: bool, broken: bytes
) -> None:
    events = []
    for text, ascii_, reason in said:
        delta = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
        separators = (",", ":") if compact else None
        chunk = json.dumps({"id": "c", "model": "m", "choices": [delta]}, separators=separators)
        if not ascii_:
            chunk = json.dumps(json.loads(chunk), ensure_ascii=False, separators=separators)
        raw = chunk.encode("utf-8", "replace")
        events += [raw, raw.replace(b'"}, "finish', broken + b'"}, "finish')]
    together, one_by_one = _Reading(), _Reading()
    _read_events(together, events)
    for event in events:
        one_by_one.take(parse_json(event))
    assert "".join(together.texts) == "".join(one_by_one.texts)
    assert (together.answer, together.answer_id) == (one_by_one.answer, one_by_one.answer_id)


@given(st.lists(st.sampled_from(["data: a", "data:b", "", "event: x", "data", ": c"]), max_size=8), st.data())
def test_a_stream_is_cut_into_the_same_events_however_it_is_read(
    lines: list[str], data: st.DataObject
) -> None:
    raw = "\n".join(lines).encode() + b"\n\n"
    at = data.draw(st.integers(0, len(raw)))
    whole, cut = EventStream(), EventStream()
    bytewise = EventStream()
    expected = [event for byte in raw for event in bytewise.feed(bytes([byte]))]
    assert whole.feed(raw) == expected
    assert cut.feed(raw[:at]) + cut.feed(raw[at:]) == expected


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff{}", b'{"a":"\xff"}', b'{"a": "\xed\xa0\x80"}', '{"é": 1}'.encode("utf-16")]
)
def test_what_no_object_in_utf_8_begins_with_is_read_as_json_reads_it(raw: bytes) -> None:
    try:
        expected = json.loads(raw)
    except ValueError:
        expected = None
    assert parse_json(raw) == parse_large_json(raw) == expected


def test_of_a_large_request_of_numbers_all_is_read_but_the_fractions_values() -> None:
    request = {"model": "m", "stream": True, "user": 1.5, "seed": 7, "input": [0.25] * 60_000, "prompt": "p"}
    raw = json.dumps(request).encode()
    found = parse_large_json(raw)
    assert found == {**request, "user": 3, "input": [4] * 60_000}
    assert parse_large_json(b'{"input": [0.25]}') == {"input": [0.25]}
