"""Server-sent events as byte scripts: the same events however the reads cut them, and what they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.sse import LARGEST_COUNT, WHOLE_BYTES, Answer, EventStream, JsonLines, cut, outline, read_stream

SCRIPT = b": hello\r\ndata: one\r\n\r\ndata:two\ndata: lines\n\nevent: x\rdata\r\rid: 7\n\ndata: last"
EVENTS = [b"one", b"two\nlines", b""]


def test_fields_comments_and_all_three_line_ends() -> None:
    assert EventStream().feed(SCRIPT) == EVENTS


@given(st.lists(st.integers(1, 9), min_size=1, max_size=80))
def test_any_cut_gives_the_same_events(sizes: list[int]) -> None:
    stream = EventStream()
    pieces = [*cut(SCRIPT, sizes), SCRIPT[sum(sizes) :]]
    assert [event for piece in pieces for event in stream.feed(piece)] == EVENTS


def chunk(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def test_a_chat_stream_counts_content_per_read_and_takes_the_usage() -> None:
    role = chunk(model="m", choices=[{"delta": {"role": "assistant", "content": ""}}])
    word = chunk(choices=[{"delta": {"content": "hi"}}])
    stop = chunk(choices=[{"delta": {}, "finish_reason": "stop"}])
    usage = chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})
    reading = read_stream([role, word, word + word, stop + usage, b"data: [DONE]\n\n"])
    assert reading.content_events == (0, 1, 2, 0, 0)
    assert reading.answer == Answer("m", 5, 3, "stop", None, done=True)


@pytest.mark.parametrize(
    ("message", "carries"),
    [
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, True),
        ({"choices": [{"text": "completion"}]}, True),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}, True),
        ({"type": "response.output_text.delta", "delta": "hi"}, True),
        ({"type": "message_start", "message": {"usage": {"input_tokens": 9}}}, False),
        ({"message": {"content": "hi"}, "done": False}, True),
        ({"choices": [{"delta": {"content": ""}}]}, False),
        ({"choices": ["nonsense", None]}, False),
        ([], False),
        (None, False),
    ],
)
def test_what_counts_as_generated_content(message: object, carries: bool) -> None:
    assert Answer().absorb(message) is carries


def test_usage_of_other_dialects_and_an_error_inside_a_stream() -> None:
    answer = Answer()
    answer.absorb({"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 9}}})
    answer.absorb(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}
    )
    answer.absorb({"error": {"message": "overloaded"}})
    assert answer == Answer("claude", 9, 4, "end_turn", "overloaded")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_any_cut_gives_the_same_lines(sizes: list[int]) -> None:
    script = b'{"a": 1}\n\n{"b": 2}\n{"unfinished'
    splitter = JsonLines()
    pieces = [*cut(script, sizes), script[sum(sizes) :]]
    assert [line for piece in pieces for line in splitter.feed(piece)] == [b'{"a": 1}', b'{"b": 2}']


def test_of_a_large_body_model_and_usage_are_read_from_its_ends() -> None:
    data = [{"embedding": [0.125] * 100_000}]
    usage = {"prompt_tokens": 7, "details": {"cached_tokens": 2}}
    large = json.dumps({"model": "m", "data": data, "usage": usage}).encode()
    assert len(large) > WHOLE_BYTES
    assert outline(large) == {"model": "m", "usage": usage}
    assert outline(b"[" + b"0," * WHOLE_BYTES + b"0]") == {"model": None, "usage": None}


def test_what_an_answer_says_can_be_stored() -> None:
    answer = Answer()
    answer.absorb({"model": "\ud800", "choices": [{"finish_reason": "\ud800"}], "error": "\ud800"})
    answer.absorb({"usage": {"prompt_tokens": LARGEST_COUNT + 1}, "stop_reason": "\udfff"})
    assert answer == Answer("?", None, None, "?", "?")


def test_an_error_that_is_no_message_is_none() -> None:
    answer = Answer()
    answer.absorb({"error": 0.25, "score": 1})
    assert answer.error is None


def test_no_count_is_ever_guessed() -> None:
    answer = Answer()
    answer.absorb({"usage": {"prompt_tokens": True, "completion_tokens": -3}})
    assert (answer.input_tokens, answer.output_tokens) == (None, None)
