"""What `inspect` says of a trace: counts that add up, and doubts about its clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.transform.burst_curve import dispersion
from replay.transform.inspection import (
    MOST_BUCKETS,
    YEAR_S,
    clock_warnings,
    rate_curve,
    span_warnings,
)

S = 1_000_000_000


@given(st.lists(st.integers(0, 200_000 * S), min_size=1, max_size=200))
def test_the_rate_curve_holds_every_event_in_few_buckets(instants: list[int]) -> None:
    curve = rate_curve(np.sort(np.array(instants, np.int64)))
    assert round(float(curve.per_s.sum() * curve.width_s)) == len(instants)
    assert len(curve.per_s) <= MOST_BUCKETS + 1


def test_poisson_arrivals_have_dispersion_one_and_a_constant_rate_near_zero() -> None:
    rng = np.random.default_rng(5)
    poisson = np.sort(rng.integers(0, 1000 * S, 50_000))
    steady = np.arange(50_000, dtype=np.int64) * (S // 50)
    # The variance of a variance ratio over 1,000 windows is about 2/1000: five sigma is 0.22.
    assert dispersion(poisson, 1.0) == pytest.approx(1, abs=0.22)
    assert dispersion(steady, 1.0) == pytest.approx(0, abs=0.01)
    assert dispersion(steady, 1000.0) is None


@given(st.lists(st.integers(0, 60 * S), min_size=2, max_size=300))
def test_the_dispersion_is_variance_over_mean_of_all_windows(instants: list[int]) -> None:
    at_ns = np.sort(np.array(instants, np.int64))
    windows = int(at_ns[-1] - at_ns[0]) // S
    found = dispersion(at_ns, 1.0)
    if windows < 10:
        assert found is None
        return
    counts = np.bincount((at_ns - at_ns[0]) // S)[:windows]
    assert found == pytest.approx(counts.var(ddof=1) / counts.mean())


@pytest.mark.parametrize(("years", "doubted"), [(9.9, False), (10.1, True)])
def test_a_span_of_decades_is_doubted(years: float, doubted: bool) -> None:
    assert bool(span_warnings(np.array([0, round(years * YEAR_S) * S]))) is doubted


@pytest.mark.parametrize(
    ("arrivals", "stated_tick_ns", "words"),
    [
        (np.arange(100) * 7_654_321, 1, None),
        (np.repeat(np.arange(10), 10) * 3 * S, 1, "ticks every 3 s"),
        (
            np.repeat(np.arange(10), 10) * 3 * S + np.repeat(np.arange(10) % 3, 10) * 1_000_000,
            1,
            "ticks every 3 s",
        ),
        (np.sort(np.random.default_rng(1).integers(0, 90, 100)) * S, 1, "ticks every 1 s"),
        (np.arange(100) * 7_654_321, 3 * S, "ticks every 3 s"),
        (np.zeros(50, np.int64), 1, "the source's clock was lost"),
        (np.arange(10) * S, 1, None),  # too few to tell
    ],
    ids=["fine", "rounded", "rounded, with noise", "whole seconds", "stated", "no time", "too few"],
)
def test_doubts_about_the_clock(arrivals: np.ndarray, stated_tick_ns: int, words: str | None) -> None:
    found = clock_warnings(arrivals.astype(np.int64), stated_tick_ns)
    assert len(found) == (words is not None)
    assert all(words is not None and words in warning for warning in found)
