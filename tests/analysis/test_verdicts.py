"""The verdict table, and what an undecided effect says of itself."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replay.analysis.effects import Estimate
from replay.analysis.values import Effect, Group, Verdict
from replay.analysis.verdicts import (
    CHOSEN_BLOCKS,
    PLANNED_POWER,
    assumed_floor_ns,
    detectable_errors,
    judge_effects,
    measured_floors_ns,
    verdict_of,
)

CHAT = Group("endpoint", "POST /v1/chat/completions")


@pytest.mark.parametrize(
    ("low", "high", "effect", "verdict"),
    [
        (3, 9, 6, Verdict.REGRESSION),
        (-9, -3, -6, Verdict.IMPROVED),
        (-2, 4, 1, Verdict.EQUIVALENT),
        (1, 4, 2.5, Verdict.EQUIVALENT),  # certain, and too small to matter
        (-1, 9, 4, Verdict.INCONCLUSIVE),  # may be nothing, may be bad
        (1, 9, 4.5, Verdict.INCONCLUSIVE),  # certain, and perhaps too small to matter
        (0, 12, 6, Verdict.INCONCLUSIVE),  # touching zero does not exclude it
        (0, 0, 0, Verdict.EQUIVALENT),
    ],
)
def test_the_table_at_a_margin_of_five(low: float, high: float, effect: float, verdict: Verdict) -> None:
    assert verdict_of(low, high, effect, 5, 5) is verdict


@pytest.mark.parametrize(
    ("low", "high", "effect", "verdict"),
    [
        (2, 3, 2.5, Verdict.INCONCLUSIVE),  # more than is tolerated, less than a build differs from itself
        (-4, 4, 0, Verdict.INCONCLUSIVE),  # may be more than is tolerated: no equivalence
        (-1, 1, 0, Verdict.EQUIVALENT),
        (3, 9, 6, Verdict.REGRESSION),
    ],
)
def test_a_noise_floor_above_the_tolerance_makes_nothing_the_same(
    low: float, high: float, effect: float, verdict: Verdict
) -> None:
    assert verdict_of(low, high, effect, margin=5, tolerated=1) is verdict


MIRROR = {Verdict.REGRESSION: Verdict.IMPROVED, Verdict.IMPROVED: Verdict.REGRESSION}


@given(st.floats(-9, 9), st.floats(0, 9), st.floats(0, 9))
def test_an_improvement_is_a_regression_mirrored(effect: float, half: float, margin: float) -> None:
    seen = verdict_of(effect - half, effect + half, effect, margin, margin / 2)
    mirrored = verdict_of(-effect - half, -effect + half, -effect, margin, margin / 2)
    assert mirrored is MIRROR.get(seen, seen)


def estimate(ratio: float, error: float = 0.01, *, judged: bool = True) -> Estimate:
    return Estimate(CHAT, "ttft", "due", 0.5, 400, 1e9, ratio * 1e9, error, 30.0, judged, 800)


def judged(found: Estimate, tolerance: float = 0.05) -> Effect:
    (effect,) = judge_effects([found], tolerance, {})
    return effect


def test_an_effect_within_noise_floor_is_no_regression_however_certain() -> None:
    floor = assumed_floor_ns("ttft", 1e9)
    assert floor == pytest.approx(22e6)
    within = judged(estimate(1.02, 1e-6), tolerance=0.0)
    assert (within.verdict, within.pairs_needed) == (Verdict.INCONCLUSIVE, None)
    assert judged(estimate(1.03, 1e-6), tolerance=0.0).verdict is Verdict.REGRESSION
    assert judged(estimate(1.03, 1e-6), tolerance=0.05).verdict is Verdict.EQUIVALENT


def test_a_measured_floor_replaces_the_assumed_one() -> None:
    floors = measured_floors_ns([estimate(1.08, 0.01)])
    (floor,) = floors.values()
    assert floor == pytest.approx(90e6)
    (effect,) = judge_effects([estimate(1.085, 1e-6)], 0.0, floors)
    assert effect.verdict is Verdict.INCONCLUSIVE
    assert measured_floors_ns([estimate(1.5, judged=False)]) == {}


def test_the_interval_is_that_of_the_ratio() -> None:
    effect = judged(estimate(1.4, 0.05))
    assert (1 + effect.low_ns / 1e9) * (1 + effect.high_ns / 1e9) == pytest.approx(1.4**2)
    assert effect.low_ns < effect.effect_ns < effect.high_ns


def test_each_further_test_widens_the_interval() -> None:
    alone = judged(estimate(1.0))
    among_many = judge_effects([estimate(1.0)] * 20, 0.05, {})[0]
    assert among_many.high_ns > 1.3 * alone.high_ns


def test_an_undecided_effect_says_how_many_pairs_would_decide_it() -> None:
    effect = judged(estimate(1.0, 0.05))
    assert effect.verdict is Verdict.INCONCLUSIVE
    assert effect.pairs_needed is not None
    enough = dataclasses.replace(
        estimate(1.0, 0.05 * np.sqrt(400 / (400 + 1.1 * effect.pairs_needed))), pairs=400
    )
    assert judged(enough).verdict is Verdict.EQUIVALENT
    assert judged(enough).pairs_needed is None


def test_what_could_not_be_judged_is_undecided_and_widens_nothing() -> None:
    unjudged = estimate(2.0, float("nan"), judged=False)
    first, second = judge_effects([unjudged, estimate(1.0)], 0.05, {})
    assert first.verdict is Verdict.INCONCLUSIVE
    assert np.isnan([first.p_value, first.low_ns, first.minimum_detectable_ns]).all()
    assert first.pairs_needed == 400
    assert second.high_ns == judged(estimate(1.0)).high_ns


def test_the_minimum_detectable_effect_is_detected_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    error = 0.03
    least = judged(estimate(1.0, error)).minimum_detectable_ns / 1e9
    found = np.log1p(least) + error * rng.standard_t(30, 2000)
    seen = [judged(estimate(float(np.exp(ratio)), error)).verdict is Verdict.REGRESSION for ratio in found]
    assert 0.8 < np.mean(seen) == pytest.approx(PLANNED_POWER, abs=0.06)


def test_identical_runs_differ_by_nothing_for_certain() -> None:
    effect = judged(estimate(1.0, 0.0))
    assert (effect.p_value, effect.low_ns, effect.high_ns) == (1.0, 0.0, 0.0)
    assert effect.verdict is Verdict.EQUIVALENT


@pytest.mark.parametrize("freedom", [8.0, 20.0, 200.0])
@pytest.mark.parametrize("margin", [0.0, 3.0, 6.0])
def test_what_is_visible_is_seen_four_times_in_five(freedom: float, margin: float) -> None:
    """Simulated as it happens: one diff's standard error says what is visible, another diff judges it."""
    rng, level, n = np.random.default_rng(5), 0.001, 40_000
    left = CHOSEN_BLOCKS * freedom
    known, later = (np.sqrt(rng.chisquare(left, n) / left) for _ in range(2))
    change = detectable_errors(level, freedom, margin) * known
    critical = stats.t.ppf(1 - level / 2, freedom)
    seen = change + rng.normal(size=n) > np.maximum(margin * known, critical * later)
    assert np.mean(seen) == pytest.approx(PLANNED_POWER, abs=0.015)


@pytest.mark.parametrize("drift", [1.0, 4.0])
def test_what_a_slow_baseline_hides_is_allowed_for(drift: float) -> None:
    rng, level, n = np.random.default_rng(6), 0.001, 60_000
    again = rng.choice((-drift, drift), n)  # a' − a, as found
    baseline = -again / 2 + rng.normal(0, 0.5, n)  # a given that; each arm has variance 1/2
    candidate = rng.normal(0, math.sqrt(0.5), n)
    margin = drift + 1.0
    change = detectable_errors(level, 1e6, margin, drift)
    seen = change + candidate - baseline > max(margin, stats.norm.ppf(1 - level / 2))
    assert np.mean(seen) == pytest.approx(PLANNED_POWER, abs=0.015)
