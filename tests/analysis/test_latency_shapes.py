"""How latencies are distributed: what a sample bounds, what hangs together counts for less, densities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import CHAT, EMBED, MS, MadeRun

from replay.analysis.latency_shapes import (
    effective_sizes,
    log_density,
    quantile_intervals,
    upper_quantiles,
)
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.quantiles import harrell_davis
from replay.analysis.summary import summarise
from replay.analysis.values import Group

CELLS = 200
ONE_PHASE = np.zeros(CELLS, dtype=np.int64)


def ascending(values: np.ndarray) -> Sample:
    order = np.argsort(values)
    return Sample(values[order], order)


def in_turn(n: int, cells: int = CELLS) -> np.ndarray:
    return np.arange(n) * cells // n


def wandering(rng: np.random.Generator, n: int, spread: float) -> np.ndarray:
    """Latencies in order of time, whose level wanders from cell to cell (AR(1), 0.9)."""
    level = np.empty(CELLS)
    level[0] = rng.normal()
    for at in range(1, CELLS):
        level[at] = 0.9 * level[at - 1] + np.sqrt(1 - 0.9**2) * rng.normal()
    return np.exp(spread * level[in_turn(n)] + 0.5 * rng.normal(size=n)) * MS


@pytest.mark.parametrize(("n", "known_to"), [(30, 0.9), (1_000, 0.997), (10_000, 0.9997), (60_000, 0.9999)])
def test_a_percentile_is_known_only_where_requests_bound_it(n: int, known_to: float) -> None:
    values = np.random.default_rng(1).lognormal(0, 1, n) * MS
    known, value, low, high = upper_quantiles(ascending(values), in_turn(n), ONE_PHASE)
    assert known[-1] <= known_to
    assert known[-1] > 1 - 4 * (1 - known_to)
    # Nothing is claimed beyond what was seen: p^n ≤ 2.5 % is what bounds a quantile from above.
    assert known[-1] ** n <= 0.026
    assert (low <= value).all()
    assert (value <= high).all()
    assert high[-1] <= values.max()
    for curve in (value, low, high):
        assert (np.diff(curve) >= 0).all()


def test_what_a_dozen_requests_say_of_their_percentiles_is_nothing() -> None:
    known, *_ = upper_quantiles(ascending(np.arange(4) * 1.0 * MS), in_turn(4), ONE_PHASE)
    assert len(known) == 0


@given(st.floats(1e-3, 1e3), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_curves_scale_with_latency(factor: float, seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 0.7, 400) * MS
    one = upper_quantiles(ascending(values), in_turn(400), ONE_PHASE)
    other = upper_quantiles(ascending(values * factor), in_turn(400), ONE_PHASE)
    for mine, yours in zip(one[1:], other[1:], strict=True):
        np.testing.assert_allclose(yours, mine * factor, rtol=1e-9)


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_intervals_hold_the_true_percentile_also_where_requests_hang_together(spread: float) -> None:
    p = np.array([0.5, 0.75, 0.9])
    truth = np.exp(np.hypot(0.5, spread) * np.array([0.0, 0.6745, 1.2816])) * MS
    held, claimed = np.zeros(3), np.zeros(3)
    for seed in range(80):
        values = wandering(np.random.default_rng(seed), 2_000, spread)
        known, _, low, high = upper_quantiles(ascending(values), in_turn(2_000), ONE_PHASE)
        at = np.searchsorted(known[:-1], p - 1e-9)
        claimed += known[at] >= p - 1e-9
        held += (known[at] < p - 1e-9) | ((low[at] <= truth) & (truth <= high[at]))
    assert (claimed[:2] >= 70).all()
    assert (held / 80 >= (0.9 if spread == 0 else 0.82)).all(), held / 80


def test_requests_that_hang_together_count_for_less() -> None:
    rng = np.random.default_rng(3)
    p = np.array([0.5, 0.9, 0.99])
    for spread, least, most in ((0.0, 0.5, 1.0), (0.5, 0.0, 0.25)):
        sample = ascending(wandering(rng, 4_000, spread))
        share = effective_sizes(in_turn(4_000)[sample.row], p, ONE_PHASE)[0] / 4_000
        assert least <= share <= most


def test_what_a_peak_adds_is_the_schedules_and_no_chance() -> None:
    rng = np.random.default_rng(4)
    phase = (np.abs(np.arange(CELLS) - 100) < 20).astype(np.int64)
    values = rng.lognormal(0, 0.3, 4_000) * np.where(phase[in_turn(4_000)], 5.0, 1.0) * MS
    sample = ascending(values)
    p = np.array([0.5, 0.9])
    told = effective_sizes(in_turn(4_000)[sample.row], p, phase)
    untold = effective_sizes(in_turn(4_000)[sample.row], p, ONE_PHASE)
    assert (told > 3 * untold).all()


def test_percentiles_are_those_of_the_tables() -> None:
    values = np.random.default_rng(5).lognormal(0, 0.5, 5_000) * MS
    known, value, _, _ = upper_quantiles(ascending(values), in_turn(5_000), ONE_PHASE)
    for p in (0.5, 0.9, 0.95, 0.99):
        assert value[np.searchsorted(known, p - 1e-9)] == pytest.approx(harrell_davis(values, [p])[0])


@given(st.integers(20, 3_000), st.floats(0.05, 1.5), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_a_density_holds_all_of_the_values(n: int, spread: float, seed: int) -> None:
    values = np.sort(np.random.default_rng(seed).lognormal(0, spread, n) * MS)
    at_ns, density, below = log_density(values)
    assert np.trapezoid(density / np.log(1.1), np.log(at_ns)) == pytest.approx(1.0, abs=0.01)
    assert (np.diff(below) >= 0).all()
    assert (below[0], below[-1]) == (0.0, 1.0)
    mean = np.average(np.log(at_ns), weights=density)
    assert mean == pytest.approx(np.log(values).mean(), abs=0.03)


def test_a_density_shows_each_mode_and_is_on_one_grid_for_all() -> None:
    rng = np.random.default_rng(6)
    values = np.sort(np.concatenate([rng.lognormal(0, 0.1, 600), rng.lognormal(1, 0.1, 400)]) * 20 * MS)
    at_ns, density, _ = log_density(values)
    inner = density[1:-1]
    peaks = at_ns[1:-1][(inner > density[:-2]) & (inner > density[2:]) & (inner > 0.02)] / MS
    assert len(peaks) == 2
    np.testing.assert_allclose(peaks, [20, 20 * np.e], rtol=0.1)
    other, _, _ = log_density(values * 1.37)
    steps = np.log(np.concatenate([at_ns, other])) / 0.025
    np.testing.assert_allclose(steps, steps.round(), atol=1e-6)


def mixed() -> MadeRun:
    rng = np.random.default_rng(7)
    chat = np.arange(600) % 3 > 0
    ttft = np.where(chat, rng.lognormal(0, 0.3, 600) * 50 * MS, np.nan)
    return MadeRun(
        due_ns=np.arange(600) * 50.0 * MS,
        ttft_ns=ttft,
        e2e_ns=np.where(chat, ttft + 100 * MS, rng.lognormal(0, 0.2, 600) * 8 * MS),
        endpoint=[CHAT if one else EMBED for one in chat],
    )


def test_each_metric_is_shown_of_each_set_of_requests_once() -> None:
    found = summarise(mixed().run(), distributed=True).distributions
    chat, embed, whole = Group("endpoint", CHAT), Group("endpoint", EMBED), Group("all", "")
    assert {(one.metric, one.group) for one in found} == {
        *((metric, chat) for metric in ("ttft", "itl", "tpot", "e2e")),  # all that stream are chats
        ("e2e", whole),
        ("e2e", embed),
    }
    assert {one.n for one in found if one.metric == "e2e"} == {600, 400, 200}
    assert summarise(mixed().run()).distributions == ()


def test_intervals_are_found_of_every_group() -> None:
    found = quantile_intervals(Latencies(mixed().run()))
    assert found[Group("all", ""), "ttft", 0.5] == found[Group("endpoint", CHAT), "ttft", 0.5]
    low, high = found[Group("all", ""), "ttft", 0.5]
    assert 0.85 * 50 * MS < low < 50 * MS < high < 1.15 * 50 * MS


def test_a_run_that_answered_nothing_has_no_distribution() -> None:
    empty = MadeRun(due_ns=np.array([]), e2e_ns=np.array([])).run()
    assert summarise(empty, distributed=True).distributions == ()
    assert quantile_intervals(Latencies(empty)) == {}
