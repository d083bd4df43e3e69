"""Durations, shares and settings as a user types them."""

from __future__ import annotations

import pytest

from capture.failures import BadInput
from capture.quantities import parse_duration_ns, parse_factor, parse_settings, parse_share


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


def test_settings() -> None:
    assert parse_settings("a=1, b=2", "--x", wanted=("a", "b")) == {"a": "1", "b": "2"}
    for text in ("a=1", "a=1,c=2", "a=1,a=2,b=1", "a,b=1", "a=,b=1"):
        with pytest.raises(BadInput, match="--x"):
            parse_settings(text, "--x", wanted=("a", "b"))
