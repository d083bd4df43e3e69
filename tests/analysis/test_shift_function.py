"""The shift function's laws: nothing where nothing changed, all quantiles or the tail where those did."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import MS, MadeRun

from replay.analysis.bootstrap import stationary_multiplicities
from replay.analysis.distribution_values import ShiftFunction
from replay.analysis.effects import Comparison, comparisons, estimates
from replay.analysis.metrics import Latencies, Sample
from replay.analysis.pairing import BlockLength, Pairs, block_length, pair
from replay.analysis.shift_function import SHIFT_QUANTILES, shift_function
from replay.analysis.values import QUANTILES, Group

ALL = Group("all", "")
CELLS, N = 120, 1_200
CELL = np.arange(N) * CELLS // N


def made(before: np.ndarray, after: np.ndarray, block: float = 2.0, resamples: int = 300) -> ShiftFunction:
    arms, n = [], len(before)
    for values in (before, after):
        order = np.argsort(values)
        arms.append(Sample(values[order], order))
    rows = np.arange(n)
    pairs = Pairs(rows, rows, rows * CELLS // n, CELLS, 1e8)
    drawn = stationary_multiplicities(CELLS, block, resamples, np.random.default_rng(1))
    compared = Comparison(ALL, "e2e", "due", np.ones(n, dtype=np.bool_), (arms[0], arms[1]))
    found = shift_function(pairs, compared, drawn, BlockLength(block, False, 0.0))
    assert found is not None
    return found


def latencies(seed: int, spread: float = 0.05) -> np.ndarray:
    """The same work for every seed, with noise of the seed's own."""
    work = np.random.default_rng(99).lognormal(0, 0.5, N)
    return work * np.random.default_rng(seed).lognormal(0, spread, N) * 50 * MS


def test_a_run_and_itself_differ_by_nothing() -> None:
    found = made(latencies(1), latencies(1))
    assert found.quantiles == SHIFT_QUANTILES
    assert found.pairs == N
    for values in (found.effect_ns, found.low_ns, found.high_ns):
        np.testing.assert_allclose(values, 0.0, atol=1e-6)


def test_ten_percent_for_everybody_are_found_at_every_quantile() -> None:
    found = made(latencies(1), 1.1 * latencies(2))
    change = np.array(found.effect_ns) / found.baseline_ns
    np.testing.assert_allclose(change, 0.1, atol=0.02)
    assert (np.array(found.low_ns) > 0).all()
    assert (np.array(found.low_ns) <= 0.1 * np.array(found.baseline_ns) * 1.1).all()


def test_a_tail_that_stalls_is_found_in_the_tail_alone() -> None:
    stalls = np.where(np.random.default_rng(3).random(N) < 0.02, 6.0, 1.0)
    found = made(latencies(1), latencies(2) * stalls)
    certain = [low > 0 or high < 0 for low, high in zip(found.low_ns, found.high_ns, strict=True)]
    assert certain[-1]
    half = SHIFT_QUANTILES.index(0.5)
    assert not any(certain[: half + 1])
    np.testing.assert_allclose(
        found.effect_ns[: half + 1], 0.0, atol=0.03 * max(found.baseline_ns[: half + 1])
    )
    assert found.effect_ns[-1] > 0.5 * found.baseline_ns[-1]


def test_the_band_goes_to_the_other_side_when_the_arms_do() -> None:
    one, other = latencies(1), 1.1 * latencies(2)
    there, back = made(one, other), made(other, one)
    np.testing.assert_allclose(there.effect_ns, -np.array(back.effect_ns))
    np.testing.assert_allclose(there.standard_error_ratio, back.standard_error_ratio, rtol=1e-6)


def test_where_too_few_requests_lie_beyond_there_is_no_interval() -> None:
    found = made(latencies(1)[::12], latencies(2)[::12], block=1.0)
    judged = [not np.isnan(low) for low in found.low_ns]
    assert judged == [p not in (0.05, 0.95, 0.99) for p in SHIFT_QUANTILES]
    assert np.isfinite(found.effect_ns).all()
    none = made(latencies(1), latencies(2), block=CELLS / 3)  # three blocks of time tell of no noise
    assert np.isnan(none.low_ns).all()


def arm(seed: int, factor: float = 1.0) -> Latencies:
    rng = np.random.default_rng(seed)
    ttft = np.random.default_rng(9).lognormal(0, 0.4, N) * rng.lognormal(0, 0.1, N) * 50 * MS * factor
    made = MadeRun(due_ns=np.arange(N) * 25.0 * MS, ttft_ns=ttft, e2e_ns=ttft + 90 * MS)
    return Latencies(made.run())


def test_it_agrees_with_the_effects_that_the_verdict_is_made_of() -> None:
    before, after = arm(1), arm(2, 1.05)
    pairs = pair(before.run, after.run)
    length = block_length(pairs, before, after)
    drawn = stationary_multiplicities(pairs.cells, length.cells, 500, np.random.default_rng(3))
    found = (
        shift_function(pairs, one, drawn, length)
        for one in comparisons(pairs, before, after)
        if one.clock == "due"
    )
    shifts = {(one.metric, one.group): one for one in found if one is not None}
    effects = [one for one in estimates(pairs, before, after, drawn, length) if one.clock == "due"]
    assert {(one.metric, one.group) for one in effects} == set(shifts)
    for effect in effects:
        shift = shifts[effect.metric, effect.group]
        at = shift.quantiles.index(effect.quantile)
        assert effect.quantile in QUANTILES
        assert shift.effect_ns[at] == pytest.approx(effect.effect_ns)
        assert shift.baseline_ns[at] == pytest.approx(effect.baseline_ns)
        assert shift.standard_error_ratio[at] == pytest.approx(effect.standard_error)


def test_the_whole_curve_lies_in_the_band_nineteen_times_in_twenty() -> None:
    """Two arms of one build whose latencies wander, each on its own path: the true shift is 0 everywhere."""
    rng = np.random.default_rng(11)
    runs, covered, missed = 60, 0, np.zeros(len(SHIFT_QUANTILES))
    for _ in range(runs):
        arms = []
        for _ in range(2):
            steps = rng.normal(size=CELLS)
            level = np.convolve(steps, 0.6 ** np.arange(8))[:CELLS]
            arms.append(rng.lognormal(0, 0.4, N) * np.exp(0.05 * level[CELL]) * 50 * MS)
        found = made(arms[0], arms[1], block=6.0, resamples=200)
        outside = (np.array(found.low_ns) > 0) | (np.array(found.high_ns) < 0)
        covered += not outside.any()
        missed += outside
    assert covered / runs >= 0.87, covered / runs
    assert (missed / runs <= 0.1).all()
