"""What is a secret, what only looks like one, and that the quick look never overlooks one."""

from __future__ import annotations

import json
import random
import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.privacy.leaves import holds_secret
from capture.privacy.quick_look import may_hold_secret
from capture.privacy.secret_patterns import (
    DEFAULT_KINDS,
    OPTIONAL_KINDS,
    OwnPattern,
    SecretFinder,
    entropy_bits,
    is_card,
    is_iban,
)
from capture.privacy.vendor_keys import VENDOR_PATTERNS, beginnings
from tests.privacy.canaries import KINDS, canary

FINDER = SecretFinder()


def kinds_in(text: str, finder: SecretFinder = FINDER) -> list[str]:
    return [one.kind for one in finder.find(text)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_in_a_sentence_and_nothing_of_it_is_left_over(kind: str) -> None:
    for seed in range(30):
        planted = canary(kind, random.Random(seed))
        text = f"Use this: {planted.text}\nand tell nobody."
        found = FINDER.find(text)
        assert [one.kind for one in found] == [kind]
        rest = text[: found[0].start] + text[found[0].end :]
        assert planted.secret not in rest
        assert rest.startswith("Use this: ")
        assert rest.endswith("and tell nobody.")


def test_the_canaries_cover_every_default_kind_that_can_be_made_up() -> None:
    assert set(DEFAULT_KINDS) - set(KINDS) == {"slack_webhook"}
    assert kinds_in("https://hooks.slack.com/services/T0AAAAAAA/B0BBBBBBB/abcdefghijklmnop12345678") == [
        "slack_webhook"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "task-0123456789abcdef0123",
        "risk-assessment-model-for-banks",
        "the token limit is 4096 tokens, the key point is the secret of success",
        "meta-llama/Llama-3.1-8B-Instruct and chatcmpl-9f8b7c6d5e4f3a2b1c0d9e8f",
        "it is no access key when it goes on: AKIAIOSFODNN7EXAMPLEAAA",
        "0.4111111111111111 and 1.4242424242424242",
        "1732492800000000000 ns, order 4111 1111 1111 1112, phone 4111-1111",
        "http://example.com:8080/a@b and user@host:22/path",
        "password: hunter2, token=short, secret: aaaaaaaaaaaaaaaaaaaaaaaa",
        "Bearer of bad news",
    ],
)
def test_what_only_resembles_a_secret_is_left_alone(text: str) -> None:
    assert kinds_in(text) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe+test@mail.example.co.uk now", "email"),
        ("SSN 078-05-1120.", "us_ssn"),
        ("pay to GB82 WEST 1234 5698 7654 32 please", "iban"),
        ("pay to DE89370400440532013000 please", "iban"),
    ],
)
def test_personal_data_is_found_when_asked_for(text: str, kind: str) -> None:
    assert kinds_in(text) == []
    assert kinds_in(text, SecretFinder((*DEFAULT_KINDS, *OPTIONAL_KINDS))) == [kind]
    assert may_hold_secret(text.encode(), SecretFinder((kind,)))


def test_own_patterns_take_out_their_group_or_all() -> None:
    finder = SecretFinder((), [OwnPattern("employee", r"EMP-\d{6}"), OwnPattern("room", r"room (\d+)")])
    text = "EMP-123456 sits in room 42"
    assert [(one.kind, text[one.start : one.end]) for one in finder.find(text)] == [
        ("employee", "EMP-123456"),
        ("room", "42"),
    ]
    with pytest.raises(ValueError, match="unknown kind"):
        SecretFinder(["nonsense"])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("4111111111111111", True),
        ("4111 1111 1111 1111", True),
        ("378282246310005", True),
        ("30569309025904", True),
        ("6011111111111117", True),
        ("4111111111111112", False),
        ("1111111111111111", False),
        ("0000000000000000", False),
        ("411111111111", False),
    ],
)
def test_cards_have_an_issuer_and_a_check_digit(text: str, holds: bool) -> None:
    assert is_card(text) is holds


def test_ibans_have_a_check_number_and_entropy_is_in_bits() -> None:
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB83WEST12345698765432")
    assert entropy_bits("") == 0.0
    assert entropy_bits("aaaa") == 0.0
    assert entropy_bits("abcdabcd") == 2.0


def escaped(text: str, chance: random.Random) -> str:
    """`text` as a JSON string with escapes wherever chance wants them."""
    plain = json.dumps(text, ensure_ascii=chance.random() < 0.5)
    return plain.replace("/", "\\/") if chance.random() < 0.5 else plain


def all_escaped(text: str) -> str:
    """`text` as a JSON string in which every character is written by its number."""
    return '"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"'


words = st.text(alphabet="abcdefgh XYZ019 .,:;/\\\"'\n\té€-_=", max_size=40)


@settings(deadline=None)  # the first call compiles what is looked for
@given(st.sampled_from(KINDS), st.integers(0, 2**32), words, words, st.integers(0, 3), st.booleans())
def test_the_quick_look_sees_whatever_the_finder_finds_however_it_is_escaped(
    kind: str, seed: int, before: str, after: str, depth: int, by_number: bool
) -> None:
    chance = random.Random(seed)
    text = f"{before}{canary(kind, chance).text}{after}"
    if not FINDER.find(text):
        return  # what stands around it makes it no secret
    value: Any = text
    for _ in range(depth):
        value = json.dumps({"x": value, "y": [1, value]})
    raw = '{"messages": [{"content": %s}]}' % (all_escaped(value) if by_number else escaped(value, chance))
    json.loads(raw)
    assert may_hold_secret(raw.encode(), FINDER)


name_parts = st.sampled_from(
    ["token", "tokens", "max", "prompt", "api", "key", "keys", "secret", "auth", "session", "id", "usage"]
)


@settings(deadline=None)  # the first call compiles what is looked for
@given(st.lists(name_parts, min_size=1, max_size=4), st.sampled_from(["_", "-", "", " "]), st.booleans())
def test_the_quick_look_sees_whatever_member_is_a_credential_by_its_name(
    parts: list[str], between: str, by_number: bool
) -> None:
    name = between.join(parts)
    text = "q7Zx0Lm4Vt9Rb2Kd8Wn"
    written = all_escaped(name) if by_number else json.dumps(name)
    raw = f'{{"a": {{{written}: "{text}"}}}}'
    assert may_hold_secret(raw.encode(), FINDER) or not holds_secret(name, text)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5},
        {"choices": [{"text": "hello"}], "usage": {"prompt_tokens": 1, "completion_tokens_details": {}}},
    ],
)
def test_counts_of_tokens_are_no_reason_to_read_a_body(body: dict[str, Any]) -> None:
    assert not may_hold_secret(json.dumps(body).encode(), FINDER)


@given(words)
def test_findings_are_ascending_disjoint_and_within_the_text(text: str) -> None:
    found = SecretFinder((*DEFAULT_KINDS, *OPTIONAL_KINDS)).find(text)
    ends = [0]
    for one in found:
        assert ends[-1] <= one.start < one.end <= len(text)
        ends.append(one.end)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("beginning", ["sk-", "sk-ant-", "eyJ", "eyJ-", "SG.", "AKIA", "ghp_", "://a:", "4-"])
def test_a_body_of_nothing_but_beginnings_keeps_nobody_for_long(beginning: str) -> None:
    """Whoever may send a request could else stop the recorder for hours: the time must grow as the text."""
    text = beginning * (250_000 // len(beginning))
    FINDER.find(text)
    may_hold_secret(text.encode(), FINDER)


def test_a_key_is_found_however_late_its_first_digit_and_after_a_beginning_that_was_none() -> None:
    late = "sk-" + "a" * 60 + "7bcdefghijklm"
    assert [one.kind for one in FINDER.find(f"sk-sk-sk-pk- {late}")] == ["openai_key"]
    assert may_hold_secret(late.encode(), FINDER)


def first_three(tree: Any) -> set[str]:
    """What the first three characters of a match of a parsed pattern can be."""
    found = {""}
    for kind, what in tree:
        name, short = str(kind), {one for one in found if len(one) < 3}
        if name == "LITERAL":
            more = {chr(what)}
        elif name == "IN":
            more = {chr(code) for code in range(128) if re.match(rf"[{class_text(what)}]", chr(code))}
        elif name == "BRANCH":
            more = set().union(*(first_three(branch) for branch in what[1]))
        elif name == "SUBPATTERN":
            more = first_three(what[3])
        elif name == "ASSERT":
            continue  # what must follow takes nothing
        else:
            raise AssertionError(f"{name} within the first three characters")
        found = (found - short) | {(one + other)[:3] for one in short for other in more}
        if all(len(one) == 3 for one in found):
            break
    return found


def class_text(members: Any) -> str:
    """A parsed class as its text again."""
    parts = [
        re.escape(chr(what)) if str(kind) == "LITERAL" else f"{chr(what[0])}-{chr(what[1])}"
        for kind, what in members
    ]
    return "".join(parts)


@pytest.mark.parametrize("kind", VENDOR_PATTERNS)
def test_every_vendor_key_has_one_of_the_beginnings_that_are_looked_for(kind: str) -> None:
    for three in first_three(_parser.parse(VENDOR_PATTERNS[kind])):
        assert list(beginnings(f"a {three}".encode())) == [2], three


@settings(deadline=None)  # the first call compiles what is looked for
@given(
    st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from(["0f", "aZ", "1.5,", "k=", "a b "]), words
)
def test_a_secret_is_found_in_a_long_text_as_in_a_short_one(
    kind: str, seed: int, filling: str, after: str
) -> None:
    secret = canary(kind, random.Random(seed)).text
    short = f" {secret} {after}"
    long = filling * (6000 // len(filling)) + short
    begun = len(long) - len(short)
    expected = [(one.start, one.end, one.kind) for one in FINDER.find(short)]
    found = [(one.start - begun, one.end - begun, one.kind) for one in FINDER.find(long)]
    assert [one for one in found if one[1] > 0] == expected
    assert may_hold_secret(long.encode(), FINDER) or not expected


@pytest.mark.parametrize(
    "text",
    [
        '{"x": "\\u20284111111111111111"}',
        '{"x": "Bearer\\u2003q7Zx0Lm4Vt9Rb2Kd8Wn"}',
        '{"x": "Bearer%20%20q7Zx0Lm4Vt9Rb2Kd8Wn"}',
        '{"x": "{\\u005cu0041KIAIOSFODNN7EXAMPLE: 1}"}',
        '{"x": "' + "a/" * 150 + 'access_token=q7Zx0Lm4Vt9Rb2Kd8Wn"}',
        '{"x": "{\\"api_key\\"\\n: \\"q7Zx0Lm4Vt9Rb2Kd8Wn\\"}"}',
    ],
)
def test_odd_escapes_and_long_ways_hide_nothing_from_the_quick_look(text: str) -> None:
    json.loads(text)
    assert may_hold_secret(text.encode(), FINDER)
