"""Numbers as text: three significant digits, always a unit, and nothing that only a programmer reads."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.report import figures


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0 ms"),
        (12, "12.0 ns"),
        (999.7, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_960, "1.00 ms"),
        (101_400_000, "101 ms"),
        (-2_500_000, "−2.50 ms"),
        (1.234e9, "1.23 s"),
        (1.5e12, "1,500 s"),
        (math.nan, "–"),
        (math.inf, "∞"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(value_ns: float, text: str) -> None:
    assert figures.format_ns(value_ns) == text


def test_two_durations_share_a_unit_so_that_they_compare() -> None:
    assert figures.format_pair_ns(96.7e6, 1.26e9) == "0.0967 → 1.26 s"
    assert figures.format_interval_ns(-139e6, 344e6) == "−139 … +344 ms"
    assert figures.format_pair_ns(math.nan, math.nan) == "– → –"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.386, "+38.6 %"), (-0.015, "−1.5 %"), (1.384, "+138 %"), (-0.0001, "0.0 %"), (math.nan, "–")],
)
def test_a_change_has_its_sign_unless_it_is_nought(share: float, text: str) -> None:
    assert figures.format_change_ratio(share) == text


def test_shares_counts_rates_quantiles_and_spans() -> None:
    assert figures.format_ratio(0.00965) == "0.965 %"
    assert figures.format_bound(0.02) == "2 %"
    assert figures.format_bound(0.005) == "0.5 %"
    assert figures.format_count(1_234_567) == "1,234,567"
    assert figures.format_rate(102.4) == "102/s"
    assert [figures.format_quantile(q) for q in (0.5, 0.95, 0.99, 0.999)] == ["p50", "p95", "p99", "p99.9"]
    assert [figures.format_seconds(s) for s in (12.4, 185, 3720)] == ["12.4 s", "3 min 05 s", "1 h 02 min"]
    assert [figures.format_p_value(p) for p in (0.0002, 0.55, math.nan)] == ["< 0.001", "0.550", "–"]


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(figures.relative(1, 0))
    assert math.isnan(figures.relative(1, math.nan))


@given(st.floats(min_value=1e-3, max_value=1e15))
def test_what_is_shown_is_within_half_a_digit_of_what_is_meant(value: float) -> None:
    shown = float(figures.format_number(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=5.1e-3)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_no_duration_is_shown_as_nan_or_with_an_exponent(value_ns: float) -> None:
    assert not re.search(r"nan|inf|\de[+-]?\d", figures.format_ns(value_ns))
