"""Interleaved runs: intervals that hold at every look, and verdicts that a steady drift does not fool."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_runs import MS, MadeRun
from scipy import integrate, stats

from capture.failures import NothingCompared
from replay.analysis.interleaved import judge_pairs, order_of_runs
from replay.analysis.sequential import PRIOR, anytime_interval, half_width, pairs_until
from replay.analysis.summary import summarise
from replay.analysis.values import RunSummary, Verdict


def test_the_interval_is_what_its_bayes_factor_rejects() -> None:
    """By the definition: the ratio of noncentral to central t densities, the mean's prior integrated out."""
    values = np.random.default_rng(5).normal(0.3, 1, 7)
    n, alpha = len(values), 0.05
    _, low, _ = anytime_interval(values, alpha)
    t = (values.mean() - low) / (values.std(ddof=1) / math.sqrt(n))

    def weighted(size: float) -> float:
        density = stats.nct.pdf(t, n - 1, size * math.sqrt(n))
        return float(density * stats.norm.pdf(size, scale=math.sqrt(PRIOR)))

    factor = integrate.quad(weighted, -15, 15, limit=200)[0] / stats.t.pdf(t, n - 1)
    assert factor == pytest.approx(1 / alpha, rel=1e-3)


def test_looking_after_every_pair_makes_no_more_false_alarms_than_stated() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(0, 1, (2000, 40))
    missed = np.zeros(2000, bool)
    peeked = np.zeros(2000, bool)
    for n in range(2, 41):
        mean, deviation = values[:, :n].mean(1), values[:, :n].std(1, ddof=1)
        missed |= np.abs(mean) > [half_width(d, n, 0.05) for d in deviation]
        peeked |= np.abs(mean) > stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)
    # Binomial(2000, 0.05) exceeds 126 with a chance of 0.5 %; a t-interval at each look is far beyond.
    assert missed.sum() <= 126
    assert peeked.sum() > 400


def test_one_or_two_pairs_say_nothing() -> None:
    assert anytime_interval([], 0.05)[1:] == (-math.inf, math.inf)
    assert anytime_interval([0.1], 0.05) == (0.1, -math.inf, math.inf)
    assert anytime_interval([0.1, 0.2], 0.01)[2] == math.inf


@pytest.mark.parametrize(("wanted", "deviation"), [(0.02, 0.01), (0.05, 0.02), (0.01, 0.03)])
def test_the_pairs_still_needed_are_the_first_that_are_enough(wanted: float, deviation: float) -> None:
    more = pairs_until(wanted, deviation, 3, 0.01)
    assert more is not None
    assert half_width(deviation, 3 + more, 0.01) <= wanted < half_width(deviation, 3 + more - 1, 0.01)


def test_a_baseline_that_answered_nothing_is_equivalent_to_nothing() -> None:
    made = MadeRun(np.arange(20) * 10.0 * MS, np.full(20, 5.0 * MS))
    dead = summarise(MadeRun(made.due_ns, made.e2e_ns, status=np.full(20, 503)).run())
    alive = summarise(made.run())
    for candidate in (dead, alive):
        with pytest.raises(NothingCompared, match="no request was answered well in any run of build-a"):
            judge_pairs([dead], [candidate], tolerance=0.05)
    assert judge_pairs([alive] * 3, [dead] * 3, tolerance=0.05).verdict is Verdict.REGRESSION


def test_the_order_is_abba() -> None:
    assert "".join("".join(order_of_runs(block)) for block in range(4)) == "abbabaab"


def runs(factor: float, seed: int, count: int, *, drift: float = 0.0, failing: int = 0) -> list[RunSummary]:
    """One arm's runs: each has a level of its own (2 % from run to run), and a drift from run to run."""
    rng = np.random.default_rng(seed)
    found = []
    for block in range(count):
        level = factor * (1 + rng.normal(0, 0.02)) * (1 + drift) ** block
        made = MadeRun(due_ns=np.arange(60) * 50 * MS, e2e_ns=level * rng.uniform(80, 120, 60) * MS)
        made.status = np.where(np.arange(60) < failing, 503, 200)
        found.append(summarise(made.run()))
    return found


@pytest.mark.parametrize(
    ("factor", "tolerance", "verdict"),
    [
        (1.3, 0.02, Verdict.REGRESSION),
        (0.7, 0.02, Verdict.IMPROVED),
        (1.0, 0.15, Verdict.EQUIVALENT),
        (1.0, 0.001, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(factor: float, tolerance: float, verdict: Verdict) -> None:
    result = judge_pairs(runs(1, 1, 12), runs(factor, 2, 12), tolerance=tolerance)
    assert result.verdict is verdict, result.figures
    assert result.decided is (verdict is not Verdict.INCONCLUSIVE)
    figure = next(figure for figure in result.figures if figure.metric == "e2e")
    assert figure.low <= factor - 1 <= figure.high
    assert {figure.metric for figure in result.figures} == {"e2e", "error_rate"}  # no streams, no TTFT


def test_a_drift_of_both_arms_is_in_no_difference() -> None:
    result = judge_pairs(runs(1, 1, 10, drift=0.1), runs(1.25, 2, 10, drift=0.1), tolerance=0.02)
    assert result.verdict is Verdict.REGRESSION


def test_a_build_that_fails_more_is_a_regression_however_fast() -> None:
    result = judge_pairs(runs(1, 1, 8, failing=1), runs(0.7, 2, 8, failing=9), tolerance=0.02)
    assert result.verdict is Verdict.REGRESSION
    errors = result.figures[-1]
    assert (errors.metric, errors.verdict) == ("error_rate", Verdict.REGRESSION)


def test_undecided_says_how_many_more() -> None:
    result = judge_pairs(runs(1, 1, 4), runs(1.0, 2, 4), tolerance=0.05)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.pairs_needed is not None
    more = result.pairs_needed
    assert 1 <= more < 40
    after = judge_pairs(runs(1, 1, 4 + 2 * more), runs(1.0, 2, 4 + 2 * more), tolerance=0.05)
    assert after.verdict is Verdict.EQUIVALENT
