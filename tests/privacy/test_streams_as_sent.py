"""Event streams as servers send them (WHATWG HTML, 9.2): any line end, pings and comments between words."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.privacy import bodies
from capture.redaction import RedactionPolicy
from capture.semantics import answer_text

KEY = "sk-proj-7abcdefgh1234567890"
SAID = ["My ", "key: ", KEY[:4], KEY[4:9], KEY[9:15], KEY[15:22], KEY[22:], " it ", "is", "."]
BETWEEN = [
    "event: ping\ndata: {}",
    'event: ping\ndata: {"type": "ping"}',
    ": keep-alive",
    ":",
    "id: 7",
    "retry: 3000",
    "data: [DONE]",
    'data: {"choices": []}',
    'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}',
    'data: {"choices": [{"index": 1, "delta": {"content": "ab"}}]}',
]
LINE_ENDS = ["\n", "\r\n", "\r"]


def stream(texts: Sequence[str], between: dict[int, str], line_end: str = "\n", start: str = "") -> bytes:
    """An OpenAI-style stream; `between` are events by the place before which they stand."""
    events = []
    for number, text in enumerate(texts):
        events += [between[number]] if number in between else []
        events.append("data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))
    whole = start + "".join(event + "\n\n" for event in [*events, "data: [DONE]"])
    return whole.replace("\n", line_end).encode()


def written(body: bytes, policy: RedactionPolicy) -> bytes:
    headers = [("content-type", "text/event-stream")]
    return bodies.redacted_body(body, headers, policy.rules("response"), Counter()).body or b""


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("start", ["", "\ufeff", "retry: 3000\n\n"], ids=["", "mark", "retry"])
def test_a_key_in_pieces_is_taken_out_whatever_ends_a_line(line_end: str, start: str) -> None:
    found = written(stream(SAID, {}, line_end, start), RedactionPolicy())
    assert KEY[9:15].encode() not in found
    assert answer_text(found, "text/event-stream", "") == "My key: [REDACTED:openai_key] it is."


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("contents", ["drop", "hash", "pseudonymise"])
def test_no_word_is_left_whatever_ends_a_line(contents: str, line_end: str) -> None:
    policy = RedactionPolicy(completions=contents)  # type: ignore[arg-type]
    assert b"indeed" not in written(stream(["It ", "is ", "indeed ", "so"], {}, line_end), policy)


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("contents", ["drop", "hash", "pseudonymise"])
@pytest.mark.parametrize(
    "line",
    [": indeed", "words: indeed", "indeed", "event: is it indeed", "data: indeed", 'data: {"a": "indeed"'],
)
def test_no_word_is_left_wherever_it_stands_and_an_audit_finds_none(
    line: str, contents: str, line_end: str
) -> None:
    policy = RedactionPolicy(completions=contents)  # type: ignore[arg-type]
    found = written(f"event: ping\nid: 7\n{line}\n\ndata: {{}}\n\n".replace("\n", line_end).encode(), policy)
    assert b"indeed" not in found
    assert found.startswith(f"event: ping{line_end}id: 7{line_end}".encode())
    left: Counter[str] = Counter()
    rules = dataclasses.replace(policy.rules("response"), audit=True)
    bodies.redacted_body(found, [("content-type", "text/event-stream")], rules, left)
    assert not left


@pytest.mark.parametrize("event", BETWEEN)
@pytest.mark.parametrize("place", [3, 4, 6])
def test_a_key_in_pieces_is_taken_out_whatever_stands_between(event: str, place: int) -> None:
    found = written(stream(SAID, {place: event}), RedactionPolicy())
    assert not any(piece.encode() in found for piece in (KEY[4:9], KEY[9:15], KEY[15:22]))


LETTERS = st.text("aZ09 \"\\:=.-_'{}\né", max_size=5)
PIECES = st.one_of(
    LETTERS,
    st.sampled_from(["sk-proj-7abc", "defgh1234567", "AKIA", "IOSFODNN7EXAMPLE", "token", "=> ", "Bearer "]),
    st.sampled_from(["4111 1111", " 1111 1111", "4111111111111111", "\u0000", "x7Q2m9Lk4Pz8Rt1v", "pwd"]),
)


@settings(deadline=None)  # the first call compiles what is looked for
@given(
    st.lists(PIECES, min_size=4, max_size=14),
    st.dictionaries(st.integers(0, 13), st.sampled_from(BETWEEN), max_size=3),
    st.sampled_from(LINE_ENDS),
)
def test_the_quick_look_never_keeps_what_a_whole_one_takes_out(
    texts: list[str], between: dict[int, str], line_end: str
) -> None:
    body = stream(texts, between, line_end)
    with mock.patch.object(bodies, "_worth_a_look", return_value=True):
        expected = written(body, RedactionPolicy())
    assert written(body, RedactionPolicy()) == expected
