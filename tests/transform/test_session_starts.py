"""Arrival processes drawn and found again: gaps of the shape asked for, counts as bursty as fitted."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.importers.source_file import epoch_ns
from replay.transform.arrival_facts import arrival_facts
from replay.transform.arrival_fit import fit_arrivals, measured_curve, pooled
from replay.transform.burst_curve import dispersion
from replay.transform.burst_target import BurstTarget, Change, burst_target, change_of, source_curve
from replay.transform.profile import EXPONENTIAL, GAMMA, WEIBULL, Arrivals, Burst
from replay.transform.schedule_format import Lineage
from replay.transform.session_starts import draw_starts, unit_gaps, weibull_shape

sys.path.append(str(Path(__file__).resolve().parents[1] / "importers"))
from real_files import real

S = 1_000_000_000


def target(one: np.ndarray, made: np.ndarray, change: Change, *more: float, **options: bool) -> BurstTarget:
    """Of sessions with one request each."""
    return burst_target(source_curve(one, None, change), arrival_facts(made), change, *more, **options)


@pytest.mark.parametrize("factor", [2, 3, 10])
def test_as_many_times_the_users_are_seldom_called_others_and_tied_clones_always(factor: int) -> None:
    """Truth by construction: Poisson arrivals. Chance in the source is as many times chance in the target."""
    rng = np.random.default_rng(factor)

    def poisson(rate_per_s: float) -> np.ndarray:
        return np.sort(rng.integers(0, 120 * S, rng.poisson(120 * rate_per_s)))

    wrongly = 0
    for _ in range(60):
        one = poisson(11)
        made = target(one, poisson(11 * factor), Change(), float(factor))
        wrongly += any(point.misses for point in made.points)
        assert any(point.misses for point in target(one, np.repeat(one, factor), Change()).points)
    assert wrongly <= 3


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("family", "cv"), [(GAMMA, 0.5), (GAMMA, 2.0), (WEIBULL, 0.5), (WEIBULL, 2.0)])
def test_gaps_have_mean_one_and_the_cv_asked_for(family: str, cv: float, residual: bool) -> None:
    gaps = unit_gaps(family, cv, 200_000, np.random.default_rng(1), residual=residual)
    # What is left of a gap at a random instant has the mean E[X²]/2E[X] = (1 + cv²)/2.
    assert gaps.mean() == pytest.approx((1 + cv * cv) / 2 if residual else 1, rel=0.04)
    if not residual:
        assert gaps.std() == pytest.approx(cv, rel=0.05)


@given(st.floats(0.05, 10))
@settings(max_examples=20, deadline=None)
def test_the_weibull_shape_is_that_of_its_cv(cv: float) -> None:
    shape = weibull_shape(cv)
    first, second = math.gamma(1 + 1 / shape), math.gamma(1 + 2 / shape)
    assert math.sqrt(second / first**2 - 1) == pytest.approx(cv, rel=1e-4)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(2, 15))
def test_pooled_counts_keep_their_sum_and_stand_for_enough(counts: list[int], at_least: int) -> None:
    found = pooled(np.array(counts, float), at_least)
    assert found.sum() == pytest.approx(sum(counts))
    # Runs of one value, each of which holds enough; a zero alone tells that nothing came.
    runs = np.split(found, np.flatnonzero(np.abs(np.diff(found)) > 1e-9) + 1)
    assert all(run.sum() >= min(at_least, sum(counts)) - 1e-6 or run.sum() == 0 for run in runs)


def test_nothing_begins_where_the_rate_is_zero() -> None:
    curve = Arrivals(10.0, (5.0, 0.0, 0.0, 5.0), {}, (GAMMA,), (2.0,))
    starts = draw_starts(curve, np.random.default_rng(3))
    assert not ((starts >= 10 * S) & (starts < 30 * S)).any()
    assert len(starts) > 20
    assert (np.diff(starts) >= 0).all()


@pytest.mark.parametrize(("factor", "seed"), [(4.0, 1), (0.25, 2)])
def test_more_users_on_one_curve_meet_the_target_by_which_inspect_judges(factor: float, seed: int) -> None:
    users = Arrivals(1200.0, (20.0,), {}, bursts=(Burst(0.3, 0.3), Burst(10.0, 0.05)))
    rng = np.random.default_rng(seed)
    one, many = draw_starts(users, rng), draw_starts(users, rng, factor)
    assert target(one, many, Change(), equal_span=False).factor == pytest.approx(factor, rel=0.1)
    found = target(one, many, Change(), factor)
    assert len(found.points) >= 10
    assert not any(point.misses for point in found.points if point.window_s <= 1)


def test_copies_of_the_same_users_miss_the_target() -> None:
    one = draw_starts(Arrivals(1200.0, (20.0,), {}), np.random.default_rng(1))
    cloned = target(one, np.repeat(one, 4), Change())
    assert all(point.misses for point in cloned.points if point.window_s <= 1)
    assert target(one, one, Change()).points[0].off == 0


def test_what_a_sessions_own_requests_make_is_not_multiplied() -> None:
    starts = draw_starts(Arrivals(1200.0, (10.0,), {}), np.random.default_rng(1))
    more = draw_starts(Arrivals(1200.0, (40.0,), {}), np.random.default_rng(2))
    one, many = (
        np.sort(np.repeat(at, 3) + np.tile([0, S // 200, S // 100], len(at))) for at in (starts, more)
    )
    # Three requests at once from each session make a dispersion of 3, however many sessions there are.
    session = np.repeat(np.arange(len(starts)), 3)[np.argsort(np.repeat(starts, 3), kind="stable")]
    source = source_curve(one, (one, session), Change())
    found = burst_target(source, arrival_facts(many), Change(), 4.0)
    point = next(point for point in found.points if point.window_s == 1)
    assert point.found == pytest.approx(3, rel=0.15)
    assert point.target == pytest.approx(3, rel=0.3)
    assert not point.misses


def test_shapes_make_bursts_that_no_target_is_for() -> None:
    one = draw_starts(Arrivals(600.0, (10.0,), {}), np.random.default_rng(1))
    found = target(one, one, Change(shaped=True))
    assert found.points == ()
    assert "shapes lie over a part of the time" in found.notes[0]


def test_time_that_was_cut_and_compressed_is_compared_with_its_own_part() -> None:
    one = draw_starts(Arrivals(600.0, (10.0,), {}, bursts=(Burst(1.0, 1.0),)), np.random.default_rng(1))
    part = one[(one >= 100 * S) & (one < 400 * S)] - 100 * S
    lineage = Lineage("t", "f", len(one), ("slice 100s..400s", "speed 3", "thin 1"), 0)
    change = change_of(lineage)
    assert (change.speed, change.slice_s) == (3.0, (100.0, 400.0))
    found = target(one, part // 3, change)
    assert found.factor == 1
    assert max(abs(point.off) for point in found.points) < 0.03


@pytest.mark.parametrize(
    ("true", "windows_s"),
    [
        (Arrivals(600.0, (20.0,), {}), (0.1, 1, 10)),
        (Arrivals(600.0, (20.0,), {}, (GAMMA,), (0.5,)), (0.1, 1, 10)),
        (Arrivals(600.0, (20.0,), {}, bursts=(Burst(1.0, 1.0),)), (0.1, 1, 10)),
        (Arrivals(60.0, (5, 5, 10, 20, 40, 40, 20, 10, 5, 5), {}), (0.1, 1, 10)),
    ],
    ids=["independent", "steady", "bursts of a second", "a peak"],
)
def test_what_was_fitted_is_as_bursty_as_what_it_was_fitted_to(
    true: Arrivals, windows_s: tuple[float, ...]
) -> None:
    at_ns = draw_starts(true, np.random.default_rng(4))
    fitted = fit_arrivals(at_ns, true.span_s, 10, np.random.default_rng(5))
    assert sum(fitted.rate_per_s) * fitted.window_s == pytest.approx(len(at_ns), rel=0.02)
    wanted = measured_curve(at_ns, true.span_s, windows_s)
    again = [
        measured_curve(draw_starts(fitted, np.random.default_rng(k)), true.span_s, windows_s)
        for k in range(6)
    ]
    for window, value in wanted.items():
        windows = true.span_s / window
        mean = float(np.mean([curve[window] for curve in again]))
        # Both are estimates from so many windows: an eighth, and three standard errors.
        assert mean == pytest.approx(value, rel=0.125 + 3 * (2 / windows) ** 0.5), window


def test_real_arrivals_come_back_as_bursty_as_they_were() -> None:
    with real("azure-llm-2023/AzureLLMInferenceTrace_conv.csv").open() as file:
        at_ns = np.array([epoch_ns(row["TIMESTAMP"]) for row in csv.DictReader(file)])
    at_ns -= at_ns[0]
    span_s = at_ns[-1] / S
    fitted = fit_arrivals(at_ns, span_s, 10, np.random.default_rng(0))
    again = [draw_starts(fitted, np.random.default_rng(k)) for k in range(4)]
    assert np.mean([len(one) for one in again]) == pytest.approx(len(at_ns), rel=0.02)
    for window, within in ((0.1, 0.1), (1, 0.1), (10, 0.15), (60, 0.25)):
        mean = np.mean([dispersion(one, window) for one in again])
        assert mean == pytest.approx(dispersion(at_ns, window), rel=within), window


def test_too_few_arrivals_still_make_a_process() -> None:
    fitted = fit_arrivals(np.array([0, S, 5 * S]), 6.0, 10, np.random.default_rng(0))
    assert fitted.family == (EXPONENTIAL,)
    assert sum(fitted.rate_per_s) * fitted.window_s == pytest.approx(3)
