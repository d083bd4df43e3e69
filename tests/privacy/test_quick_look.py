"""The quick look at undecoded bytes: whatever a whole look would take out of a document, it takes out too."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.privacy import bodies
from capture.privacy.leaves import PLAIN_SECRETS
from capture.privacy.quick_look import may_hold_secret
from capture.redaction import RedactionPolicy
from tests.privacy.canaries import KINDS, canary

POLICY = RedactionPolicy()
RANDOM = "q7Zx0,Lm4Vt9Rb2Kd8Wn;9"
"""A value that only a member's name makes a secret: no run of characters in it is long enough."""

NAMES = st.sampled_from(
    [
        *sorted(PLAIN_SECRETS),
        *("api_key", "X-Api-Key", "pass-word", "db_token", "tokens", "author", "cookie2", "my_key", "usage"),
        *('a"b token', "token of the day and of others", "name", "key", "value", "x"),
    ]
)
VALUES = st.sampled_from(
    [
        *(RANDOM, "hunter2", "", "4111 1111 1111 1111", "\n3782-822463-10005", "1.4111111111111111"),
        *("é4111111111111111", "https://a:pw@h/x", "https://ué:p\u0001w\u2003@h/", 'a"bcdefgh1234567890'),
        *("Basic \n q7Zx0Lm4Vt9Rb2Kd8Wn~~", "a\\u0041 sig=q7Zx0Lm4Vt9Rb", "password=\\u0041bcdef1234567"),
        *("password => q7Zx0Lm4Vt9Rb2Kd8Wn", "secret\u00a0:=\u00a0'q7Zx0Lm4Vt9Rb2Kd8Wn'"),
        *("中token:q7Zx0Lm4Vt9Rb2Kd8Wn", "Token_Id\\\\\" : \\\\'q7Zx0Lm4Vt9Rb2Kd8Wn"),
    ]
)
TEXTS = st.one_of(
    VALUES,
    st.builds(
        lambda kind, seed: canary(kind, random.Random(seed)).text, st.sampled_from(KINDS), st.integers(0, 99)
    ),
)
PAIRS = st.builds(
    lambda key, name, value: {key: name, "value": value}, st.sampled_from(["name", "key"]), NAMES, VALUES
)
DOCUMENTS = st.recursive(
    st.one_of(TEXTS, PAIRS, st.sampled_from([4111111111111111, -378282246310005, 1.5, None])),
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, min_size=1, max_size=3),
        st.lists(inner, max_size=2),
        inner.map(json.dumps),
    ),
    max_leaves=4,
)


def written(body: bytes, content_type: str) -> bytes | None:
    return bodies.redacted_body(
        body, [("content-type", content_type)], POLICY.rules("request"), Counter()
    ).body


def looked_through(body: bytes, content_type: str) -> bytes | None:
    with mock.patch.object(bodies, "_worth_a_look", return_value=True):
        return written(body, content_type)


@settings(deadline=None)  # the first call compiles what is looked for
@given(DOCUMENTS, st.booleans(), st.sampled_from([(", ", ": "), (",", ":"), (" ,", "\n:\t")]))
def test_what_a_whole_look_takes_out_of_json_is_taken_out(
    document: Any, ascii_: bool, between: tuple[str, str]
) -> None:
    body = json.dumps({"a": document}, ensure_ascii=ascii_, separators=between).encode()
    assert written(body, "application/json") == looked_through(body, "application/json")


@settings(deadline=None)  # the first call compiles what is looked for
@given(st.lists(TEXTS, max_size=3).map(" ".join))
def test_what_a_whole_look_takes_out_of_plain_text_is_taken_out(text: str) -> None:
    assert written(text.encode(), "text/plain") == looked_through(text.encode(), "text/plain")


@pytest.mark.parametrize("pair", [{"name": "password", "value": "x"}, {"value": "x", "key": "api_key"}])
def test_a_value_beside_its_name_is_as_secret_as_one_behind_it(pair: dict[str, str]) -> None:
    found = json.loads(written(json.dumps({"env": [pair]}).encode(), "application/json") or b"")
    assert found == {"env": [{**pair, "value": "[REDACTED:assigned_secret]"}]}


@pytest.mark.parametrize(
    "text",
    [
        "The author's signature is on the token list: authentication, signals, passwords and secrets.",
        '{"id": "chatcmpl-9f8b7c6d5e4f3a2b1c0d9e8f", "created": 1732492800, "usage": {"total_tokens": 7}}',
        '{"author": {"name": "get_weather", "value": "none"}, "max_tokens": 4096}',
        "[0.4111111111111111, 1732492800000000000, 123456789012]",
        "task-0123456789abcdef0123, see http://example.com:8080/a and me@example.com",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_what_only_resembles_a_secret_is_no_reason_to_read_a_body(text: str) -> None:
    assert not may_hold_secret(text.encode(), POLICY.finder)
