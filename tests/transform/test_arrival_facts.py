"""Instants in numbers: rate over time, dispersion by window, the fullest window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.transform.arrival_facts import MOST_BUCKETS, arrival_facts, rate_curve
from replay.transform.burst_curve import dispersion

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


def test_one_request_alone_has_defined_facts() -> None:
    facts = arrival_facts(np.zeros(1, np.int64))
    assert (facts.rows, facts.span_s, facts.bursts, facts.gaps_s) == (1, 0.0, (), None)
