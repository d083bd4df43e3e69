"""What leaves for a recorded request, and what is read out of the answer's reads."""

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

from replay.engine.frames import FrameSplitter, frame, plain_frame
from replay.engine.requests import Rewrite, kept_headers, serialise, url_of
from replay.engine.responses import CUT_SHORT, read_response
from replay.engine.target import parse_target


def test_headers_keep_their_order_and_lose_what_belongs_to_the_old_connection() -> None:
    recorded = (
        ("Host", "production.test"),
        ("X-Trace", "1"),
        ("Authorization", "REDACTED"),
        ("Connection", "keep-alive"),
        ("Accept", "text/event-stream"),
        ("x-trace", "2"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Expect", "100-continue"),
        (":authority", "production.test"),
        ("Content-Encoding", "gzip"),
    )
    assert kept_headers(recorded, Rewrite()) == (
        ("X-Trace", "1"),
        ("Accept", "text/event-stream"),
        ("x-trace", "2"),
        ("Content-Encoding", "gzip"),
    )


def test_a_rewrite_replaces_headers_of_the_same_name_whatever_its_case() -> None:
    rewrite = Rewrite((("AUTHORIZATION", "Bearer t"),))
    sent = kept_headers((("X-Tenant", "a"), ("authorization", "x")), rewrite)
    assert sent == (("X-Tenant", "a"), ("AUTHORIZATION", "Bearer t"))


def test_header_bytes_beyond_ascii_go_out_as_they_came_in() -> None:
    """A trace holds them as ISO 8859-1; the client encodes as UTF-8."""
    (sent,) = kept_headers((("x-name", "Zo\xc3\xab"),), Rewrite())
    assert sent[1].encode() == b"Zo\xc3\xab"


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/v1/x?a=1&b=%20", "http://h:1/p/v1/x?a=1&b=%20"),
        ("http://production.test/v1/x", "http://h:1/p/v1/x"),
        ("*", "http://h:1/p/*"),
        ("/v1/x?u=http://y", "http://h:1/p/v1/x?u=http://y"),
        ("/v1/x?q=[a]|{b}'\"&c=%zz", "http://h:1/p/v1/x?q=[a]|{b}'\"&c=%zz"),
        ("/a b#c\xc3\xa9", "http://h:1/p/a%20b%23c%C3%A9"),
        ("/€\ud800", "http://h:1/p/%E2%82%AC?"),
    ],
)
def test_paths_go_to_the_target_as_they_were(path: str, url: str) -> None:
    assert url_of(parse_target("http://h:1/p"), path) == url


def test_a_method_that_is_none_makes_no_second_line() -> None:
    target = parse_target("http://h:1")
    sent = serialise(target, "GET / HTTP/1.1\r\nX: y", "/a", (("m", "v"),), None, None)
    assert sent.split(b"\r\n")[:2] == [b"GET%20%2F%20HTTP%2F1.1%0D%0AX%3A%20y /a HTTP/1.1", b"Host: h:1"]
    assert serialise(target, "M-SEARCH*", "/a", (), None, None).startswith(b"M-SEARCH* /a HTTP/1.1\r\n")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple),
)


@given(st.lists(PLAIN, max_size=20), st.integers(1, 50), st.sampled_from([frame, plain_frame]))
def test_frames_survive_any_cut(messages: list[Any], size: int, framed: Callable[[Any], bytes]) -> None:
    stream = b"".join(framed(message) for message in messages)
    splitter = FrameSplitter()
    found = [
        message for at in range(0, len(stream), size) for message in splitter.feed(stream[at : at + size])
    ]
    assert found == messages


def test_what_is_not_plain_is_framed_all_the_same() -> None:
    target = parse_target("http://h:1/p")
    assert FrameSplitter().feed(plain_frame(("finished", [target]))) == [("finished", [target])]


def event(content: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


ENCODERS = {
    "": lambda: (lambda piece: piece, lambda: b""),
    "gzip": lambda: _flushing(zlib.compressobj(wbits=31), zlib.Z_SYNC_FLUSH),
    "deflate": lambda: _flushing(zlib.compressobj(), zlib.Z_SYNC_FLUSH),
    "br": lambda: _brotli(brotli.Compressor()),
    "zstd": lambda: _flushing(zstandard.ZstdCompressor().compressobj(), zstandard.COMPRESSOBJ_FLUSH_BLOCK),
}


def _flushing(compressor, mode):  # type: ignore[no-untyped-def]
    return (lambda piece: compressor.compress(piece) + compressor.flush(mode)), compressor.flush


def _brotli(compressor):  # type: ignore[no-untyped-def]
    return (lambda piece: compressor.process(piece) + compressor.flush()), compressor.finish


@pytest.mark.parametrize("encoding", ENCODERS)
def test_tokens_are_counted_per_read_in_every_content_coding(encoding: str) -> None:
    encode, end = ENCODERS[encoding]()
    reads = [
        encode(piece)
        for piece in (event(""), event("one"), event("two") + event("three"), b"data: [DONE]\n\n")
    ]
    reads[-1] += end()
    found = read_response(
        b"".join(reads), [len(read) for read in reads], "text/event-stream; charset=utf-8", encoding
    )
    assert found.tokens_per_read == (0, 1, 2, 0)
    assert found.first_token_read == 1
    assert found.answer.done


def test_a_chat_stream_that_ends_without_an_end_was_cut_short() -> None:
    stop = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    for ending, error in ((b"", CUT_SHORT), (stop, None), (b"data: [DONE]\n\n", None)):
        body = event("one") + ending
        assert read_response(body, [len(body)], "text/event-stream", "").answer.error == error
    other = b'data: {"temperature": 3}\n\n'
    assert read_response(other, [len(other)], "text/event-stream", "").answer.error is None


def test_json_lines_are_a_stream_too() -> None:
    """As Ollama streams: one JSON text a line, whose reads may cut anywhere."""
    lines = [b'{"message": {"content": "hi"}, "done": false}\n', b'{"message": {"content": ""}, "do']
    lines.append(b'ne": true, "prompt_eval_count": 3, "eval_count": 1}\n')
    found = read_response(b"".join(lines), [len(line) for line in lines], "application/x-ndjson", "")
    assert found.tokens_per_read == (1, 0, 0)
    assert (found.answer.input_tokens, found.answer.output_tokens) == (3, 1)
    assert found.answer.done


def test_an_error_field_in_a_whole_answer_is_the_model_s_own_business() -> None:
    body = json.dumps({"error": "mean absolute", "score": 0.3}).encode()
    assert read_response(body, [len(body)], "application/json", "").answer.error is None


def test_a_damaged_coding_ends_the_reading_not_the_run() -> None:
    good = gzip.compress(event("one"))
    found = read_response(
        good[:-12] + b"\xff" * 12, [len(good) // 2, len(good) - len(good) // 2], "text/event-stream", "gzip"
    )
    assert len(found.tokens_per_read) == 2


def test_usage_of_a_whole_answer() -> None:
    body = gzip.compress(
        json.dumps({"model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
    )
    found = read_response(body, [len(body)], "application/json", "gzip")
    assert (found.answer.input_tokens, found.answer.output_tokens) == (3, 4)
    assert found.first_token_read is None
