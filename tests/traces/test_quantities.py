"""Durations, shares and settings as a user types them."""

from __future__ import annotations

import pytest

from capture.failures import BadInput
from capture.quantities import (
    parse_bytes,
    parse_count,
    parse_duration_ns,
    parse_factor,
    parse_settings,
    parse_share,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("1m30s", 90 * 10**9),
        ("250ms", 250 * 10**6),
        ("1.5h", 5400 * 10**9),
        ("7µs", 7000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration_ns(text, "--x") == ns


@pytest.mark.parametrize("text", ["", "5", "-1s", "1 s", "s", "1w", "1e3s", "∞"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match=r"--x: .* found, a duration such as"):
        parse_duration_ns(text, "--x")


def test_shares_and_factors() -> None:
    assert parse_share("2%", "--x") == 0.02
    assert parse_share("0.25", "--x") == 0.25
    assert parse_factor("4", "--x") == 4
    for text in ("-1%", "101%", "x", ""):
        with pytest.raises(BadInput, match="--x"):
            parse_share(text, "--x")
    for text in ("0", "-3", "inf", "nan", "four"):
        with pytest.raises(BadInput, match="a number above 0 wanted"):
            parse_factor(text, "--x")


@pytest.mark.parametrize("text", ["9" * 400 + "s", "106752d"])
def test_durations_beyond_int64_are_refused_in_few_words(text: str) -> None:
    with pytest.raises(BadInput, match=r"--x: .* found, at most 53375d wanted") as refused:
        parse_duration_ns(text, "--x")
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize("text", ["1e308", "1e7", "1e-7", "9" * 300])
def test_factors_that_no_replay_can_have(text: str) -> None:
    with pytest.raises(BadInput, match=r"--x: .* found, a number from 1e-06 to 1,000,000 wanted") as refused:
        parse_factor(text, "--x")
    assert len(str(refused.value)) < 150


def test_counts() -> None:
    assert parse_count("07", "--x") == 7
    for text in ("0", "-1", "1.5", "٣", "", "9" * 30, "9" * 5000):
        with pytest.raises(BadInput, match="a whole number above 0 wanted"):
            parse_count(text, "--x")


def test_sizes_beyond_int64() -> None:
    with pytest.raises(BadInput, match="a size such as"):
        parse_bytes("9" * 400 + "GB", "--x")


def test_settings() -> None:
    assert parse_settings("a=1, b=2", "--x", wanted=("a", "b")) == {"a": "1", "b": "2"}
    for text in ("a=1", "a=1,c=2", "a=1,a=2,b=1", "a,b=1", "a=,b=1"):
        with pytest.raises(BadInput, match="--x"):
            parse_settings(text, "--x", wanted=("a", "b"))
