"""The burst curve's laws (DESIGN.md): compression, ties, superposition, thinning; the envelope; the queue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.transform.burst_curve import (
    WINDOWS_S,
    dispersion,
    dispersion_curve,
    dispersion_error,
    envelope,
    session_dispersion,
    target_dispersion,
)
from replay.transform.queue_wait import service_times_ns, waits_ns
from tests.transform.made_arrivals import SPAN_S, bursty, smooth

S = 1_000_000_000
law = settings(max_examples=30, deadline=None)
instants = st.lists(st.integers(0, 100 * S), min_size=2, max_size=80).map(
    lambda found: np.sort(np.array([0, *found, 100 * S], np.int64))
)


@law
@given(instants, st.integers(2, 9))
def test_tied_clones_multiply_the_dispersion_by_the_factor(at_ns: np.ndarray, factor: int) -> None:
    tied = np.repeat(at_ns, factor)
    np.testing.assert_allclose(dispersion_curve(tied), factor * dispersion_curve(at_ns))


@law
@given(instants, st.integers(2, 9))
def test_compression_moves_the_curve_along_the_windows(at_ns: np.ndarray, factor: int) -> None:
    slow = at_ns * factor
    assert dispersion(at_ns, 1.0) == pytest.approx(dispersion(slow, float(factor)))


@law
@given(instants)
def test_sessions_of_one_request_have_a_dispersion_of_one_by_themselves(at_ns: np.ndarray) -> None:
    own = session_dispersion(at_ns, np.arange(len(at_ns)), 1.0)
    assert own == pytest.approx(1.0)


@law
@given(instants, st.integers(1, 5))
def test_one_session_alone_is_all_of_the_dispersion(at_ns: np.ndarray, window_s: int) -> None:
    own = session_dispersion(at_ns, np.zeros(len(at_ns), np.int64), float(window_s))
    assert own == pytest.approx(dispersion(at_ns, float(window_s)))


@law
@given(instants, st.floats(0.1, 50))
def test_the_target_is_the_law_of_independent_users(at_ns: np.ndarray, factor: float) -> None:
    """1 + f (IDC − 1) for single requests, where that isn't below 1; f = 1 changes nothing above it."""
    target = target_dispersion(at_ns, np.arange(len(at_ns)), factor, (1.0, 5.0))
    law_of_users = 1 + factor * (dispersion_curve(at_ns, (1.0, 5.0)) - 1)
    np.testing.assert_allclose(target, np.maximum(law_of_users, 1))


@law
@given(instants, st.floats(0.01, 50))
def test_the_envelope_is_the_most_that_any_window_holds(at_ns: np.ndarray, window_s: float) -> None:
    window_ns = round(window_s * 1e9)
    most = max(int(((at_ns >= start) & (at_ns < start + window_ns)).sum()) for start in at_ns)
    assert envelope(at_ns, (window_s,)).tolist() == [most]


@pytest.mark.parametrize("share", [0.25, 0.6])
@pytest.mark.parametrize("made", [smooth, bursty])
def test_thinning_by_sessions_follows_its_law_within_the_error_of_twenty_draws(made, share: float) -> None:  # type: ignore[no-untyped-def]
    """IDC' = C + p (IDC − C), which is 1 + p (IDC − 1) for single requests; bound: 4 standard errors."""
    rows = made(2, np.random.default_rng(1))
    expected = target_dispersion(rows.due_ns, rows.session, share)
    curves = []
    for seed in range(20):
        keep = np.random.default_rng(seed).random(len(rows)) < share
        _, first, whose = np.unique(rows.session, return_index=True, return_inverse=True)
        curves.append(dispersion_curve(rows.due_ns[keep[first][whose]]))
    error = np.std(curves, axis=0, ddof=1) / np.sqrt(len(curves))
    assert (np.abs(np.mean(curves, axis=0) - expected) <= 4 * error + 0.002).all()


def test_an_independent_superposition_keeps_the_curve() -> None:
    """Rates that vary independently: the sum of four has the mean dispersion; bound: 4 standard errors."""
    rng = np.random.default_rng(3)
    traces = [smooth(1, rng).due_ns for _ in range(4)]
    alone = np.mean([dispersion_curve(one) for one in traces], axis=0)
    sums = []
    for _ in range(20):
        again = [(one + int(rng.integers(SPAN_S)) * S) % (SPAN_S * S) for one in traces]
        sums.append(dispersion_curve(np.sort(np.concatenate(again))))
    error = np.std(sums, axis=0, ddof=1) / np.sqrt(len(sums))
    assert (np.abs(np.mean(sums, axis=0) - alone) <= 4 * error + 0.01).all()


def test_the_stated_error_is_the_scatter_of_poisson_arrivals() -> None:
    curves = []
    for seed in range(60):
        at_ns = np.sort(np.random.default_rng(seed).integers(0, 1200 * S, 12_000))
        curves.append(dispersion_curve(at_ns))
    stated = dispersion_error(1200 * S)
    assert np.std(curves, axis=0) == pytest.approx(stated, rel=0.4)


@law
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=40), st.integers(1, 4)
)
def test_waits_are_those_of_a_queue_played_step_by_step(
    requests: list[tuple[int, int]], servers: int
) -> None:
    requests.sort(key=lambda one: one[0])
    busy_until = [0] * servers
    expected = []
    for at, service in requests:
        first_free = min(range(servers), key=lambda one: busy_until[one])
        begin = max(at, busy_until[first_free])
        busy_until[first_free] = begin + service
        expected.append(begin - at)
    at_ns, service_ns = np.array(requests, np.int64).T
    assert waits_ns(at_ns, service_ns, servers).tolist() == expected


def test_an_m_m_1_queue_waits_as_its_formula_says() -> None:
    """Mean wait ρ/(1 − ρ) services; the mean of 400,000 correlated waits is within 5 %."""
    rng = np.random.default_rng(7)
    at_ns = np.cumsum(rng.exponential(1e9, 400_000)).astype(np.int64)
    service_ns = service_times_ns(len(at_ns), int(at_ns[-1]), rng, servers=1, load=0.5)
    assert waits_ns(at_ns, service_ns, 1).mean() / service_ns.mean() == pytest.approx(1.0, rel=0.05)


def test_no_arrivals_have_no_envelope_and_no_dispersion() -> None:
    nothing = np.empty(0, np.int64)
    assert envelope(nothing).tolist() == [0] * len(WINDOWS_S)
    assert np.isnan(dispersion_curve(nothing)).all()
