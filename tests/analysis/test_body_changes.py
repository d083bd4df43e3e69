"""Bodies as fields: JSON by path, streams put together, and the noise of one build cancelled."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from replay.analysis.bodies import body_changes, compare_bodies
from replay.analysis.body_fields import WHOLE, differing, fields_of


def events(*deltas: str, ident: str = "c1") -> bytes:
    """A chat's stream as OpenAI and vLLM send it."""
    chunks = [
        {"id": ident, "choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks.append({"id": ident, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    )


CONTENT = "$.choices[].delta.content"
MORE = b'{"a": [{"b": 1}, {"b": 2}], "c": {}, "d": null}'
FIELDS = {
    MORE: {"$.a[].b": (1, 2), "$.c": ("{}",), "$.d": (None,)},
    gzip.compress(MORE, mtime=0): {"$.a[].b": (1, 2), "$.c": ("{}",), "$.d": (None,)},
    zstandard.compress(b"[1]"): {"$[]": (1,)},
    b"": {WHOLE: ("",)},
    b"plain": {WHOLE: ("plain",)},
    b'{"cut': {WHOLE: ('{"cut',)},
    b'{"response": "Hel", "done": false}\n{"response": "lo", "done": true}': {
        "$.response": ("Hello",),
        "$.done": (True,),
    },
}


@pytest.mark.parametrize("body", FIELDS)
def test_a_bodys_fields(body: bytes) -> None:
    assert fields_of(body) == FIELDS[body]


def test_a_streams_pieces_are_one_text_however_they_were_cut() -> None:
    one, other = fields_of(events("Hel", "lo ", "you")), fields_of(events("Hello", " you"))
    assert one[CONTENT] == ("Hello you",)
    assert one["$.choices[].finish_reason"] == ("stop",)
    assert differing(one, other) == set()
    assert differing(one, fields_of(events("Hello me"))) == {CONTENT}


def test_a_tool_calls_arguments_are_put_together() -> None:
    def said(*pieces: str) -> bytes:
        calls = [{"choices": [{"delta": {"tool_calls": [{"function": {"arguments": p}}]}}]} for p in pieces]
        return b"".join(b"data: " + json.dumps(call).encode() + b"\n\n" for call in calls)

    found = fields_of(said('{"city"', ': "Bonn"}'))
    assert found["$.choices[].delta.tool_calls[].function.arguments"] == ('{"city": "Bonn"}',)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_floats_are_alike_when_only_their_print_differs(numbers: list[float]) -> None:
    exact = fields_of(json.dumps({"embedding": numbers}).encode())
    printed = fields_of(json.dumps({"embedding": [float(f"{n:.9g}") for n in numbers]}).encode())
    assert differing(exact, printed) == set()
    off = fields_of(json.dumps({"embedding": [n + 1 + abs(n) for n in numbers]}).encode())
    assert differing(exact, off) == {"$.embedding[]"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, json_values)
def test_differing_is_symmetric_and_nothing_differs_from_itself(one: object, other: object) -> None:
    first, second = (fields_of(json.dumps(value).encode()) for value in (one, other))
    assert differing(first, second) == differing(second, first)
    assert differing(first, first) == set()


@given(st.binary(max_size=80))
def test_any_bytes_have_fields(body: bytes) -> None:
    assert fields_of(body)


def answers(seed: int, *, score: float = 1.0, wrong: float = 0.0) -> dict[str, bytes]:
    """100 answers whose id always differs, and whose text does in 30 %."""
    rng = np.random.default_rng(seed)
    return {
        f"r{n}": json.dumps(
            {
                "id": f"{seed}-{n}",
                "text": "a" if rng.random() > 0.3 else f"b{seed}",
                "score": score if rng.random() < wrong else 1.0,
            }
        ).encode()
        for n in range(100)
    }


def test_what_differs_within_one_build_is_no_change_of_another() -> None:
    same = compare_bodies(answers(1), answers(2), hashed=False)
    found = {
        change.path: change
        for change in body_changes(compare_bodies(answers(1), answers(3), hashed=False), same)
    }
    assert found["$.id"].differing_ratio == found["$.id"].noise_ratio == 1.0
    assert not any(change.changed for change in found.values())
    spoiled = compare_bodies(answers(1), answers(3, score=2.0, wrong=0.2), hashed=False)
    changed = [change.path for change in body_changes(spoiled, same) if change.changed]
    assert changed == ["$.score"]


def test_without_two_runs_of_one_build_nothing_is_claimed() -> None:
    spoiled = compare_bodies(answers(1), answers(3, score=2.0, wrong=0.9), hashed=False)
    assert not any(change.changed for change in body_changes(spoiled, None))
    whole, *fields = body_changes(spoiled, None)
    assert (whole.path, whole.differing_ratio) == (WHOLE, 1.0)
    assert {change.path for change in fields} == {"$.id", "$.text", "$.score"}


def test_hashes_are_compared_as_a_whole() -> None:
    (whole,) = body_changes(compare_bodies({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3"}, hashed=True), None)
    assert (whole.path, whole.compared, whole.differing_ratio) == (WHOLE, 2, 0.5)
