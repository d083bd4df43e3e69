"""Interleaved runs: intervals that hold at every look, and verdicts that a steady drift does not fool."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import MS, MadeRun
from scipy import integrate, stats

from capture.failures import NothingCompared, RunInvalid
from replay.analysis.interleaved import (
    ERRORS_TOLERATED,
    PairedFigure,
    error_rate_interval,
    judge_pairs,
    order_of_runs,
)
from replay.analysis.sequential import (
    PRIOR,
    anytime_difference,
    anytime_interval,
    half_width,
    pairs_until,
)
from replay.analysis.summary import summarise
from replay.analysis.values import RunSummary, Validity, Verdict
from replay.cli.interleaving import _Comparison, _Run, _show


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
        made = MadeRun(due_ns=np.arange(100) * 50 * MS, e2e_ns=level * rng.uniform(80, 120, 100) * MS)
        made.status = np.where(np.arange(100) < failing, 503, 200)
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


def test_one_figure_on_its_way_to_a_regression_is_all_that_it_takes() -> None:
    """Error rates want many more pairs to be called equal; nobody has to wait for them."""
    slow, baseline = runs(1.3, 2, 12), runs(1, 1, 12)
    after_three = judge_pairs(baseline[:3], slow[:3], tolerance=0.02)
    errors = after_three.figures[-1]
    assert (after_three.verdict, errors.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
    more = after_three.pairs_needed
    assert more is not None
    assert 1 <= more < (errors.pairs_needed or 0)
    assert judge_pairs(baseline, slow, tolerance=0.02).verdict is Verdict.REGRESSION


def test_the_interval_of_two_shares_is_what_the_product_of_martingales_rejects() -> None:
    """By the definition, on a grid of both shares; 2 of 60 against 9 of 80."""
    alpha, grid = 0.05, np.linspace(0.0005, 0.5, 1000)

    def logs(k: int, n: int) -> np.ndarray:
        mixed = stats.betabinom.logpmf(k, n, 0.5, 0.5) - stats.binom.logpmf(k, n, grid)
        return np.asarray(mixed - math.log(2))

    kept = logs(2, 60)[:, None] + logs(9, 80)[None, :] <= math.log(1 / alpha)
    differences = (grid[None, :] - grid[:, None])[kept]
    assert anytime_difference((2, 60), (9, 80), alpha) == pytest.approx(
        (differences.min(), differences.max()), abs=0.002
    )


counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts, st.floats(0.001, 0.2))
def test_the_interval_of_two_shares_holds_their_difference_and_mirrors(
    one: tuple[int, int], other: tuple[int, int], alpha: float
) -> None:
    low, high = anytime_difference(one, other, alpha)
    assert -1 <= low <= other[0] / other[1] - one[0] / one[1] <= high <= 1
    assert anytime_difference(other, one, alpha) == pytest.approx((-high, -low), abs=1e-6)


@pytest.mark.parametrize("n", [50, 1000, 100_000])
def test_without_any_error_the_interval_says_how_many_there_may_be(n: int) -> None:
    low, high = anytime_difference((0, n), (0, n), 0.01)
    assert -low == pytest.approx(high)
    assert math.log(100) / n < high + high**2
    assert high < (math.log(100) + 1.4) / n
    assert anytime_difference((0, 0), (0, n), 0.01) == (-1.0, 1.0)


def errors(failed: Sequence[int], scheduled: int) -> list[RunSummary]:
    """Runs that differ in nothing but in how many requests failed."""
    return [dataclasses.replace(BARE, error_rate=k / scheduled, scheduled=scheduled) for k in failed]


BARE = dataclasses.replace(
    summarise(MadeRun(due_ns=np.arange(3) * MS, e2e_ns=np.full(3, 5.0 * MS)).run()), groups=()
)


def judged_errors(before: Sequence[int], after: Sequence[int], scheduled: int) -> PairedFigure:
    (figure,) = judge_pairs(errors(before, scheduled), errors(after, scheduled), tolerance=0.02).figures
    return figure


@pytest.mark.parametrize(
    ("before", "after", "scheduled", "verdict"),
    [
        ([0] * 6, [1] * 6, 100, Verdict.INCONCLUSIVE),  # no noise between runs, and six errors prove little
        ([0] * 6, [30] * 6, 100, Verdict.REGRESSION),
        ([20, 22, 19, 21, 18], [2, 0, 1, 3, 1], 100, Verdict.IMPROVED),
        ([0, 0, 0, 0, 0], [0, 300, 0, 0, 0], 1000, Verdict.INCONCLUSIVE),  # one incident is one event
        ([0] * 4, [0] * 4, 300, Verdict.EQUIVALENT),
        ([0] * 4, [0] * 4, 100, Verdict.INCONCLUSIVE),  # 400 good answers don't show one failure in 200
        ([0], [0], 100_000, Verdict.INCONCLUSIVE),  # one pair of runs shows no noise
    ],
)
def test_verdicts_on_errors(before: list[int], after: list[int], scheduled: int, verdict: Verdict) -> None:
    figure = judged_errors(before, after, scheduled)
    assert figure.verdict is verdict, figure


def test_undecided_errors_say_how_many_more_pairs() -> None:
    needed = judged_errors([0] * 4, [0] * 4, 100).pairs_needed
    assert needed is not None
    assert judged_errors([0] * (4 + needed), [0] * (4 + needed), 100).verdict is Verdict.EQUIVALENT
    assert judged_errors([0] * (3 + needed), [0] * (3 + needed), 100).verdict is Verdict.INCONCLUSIVE


def test_looking_at_error_rates_after_every_pair_makes_no_more_false_alarms_than_stated() -> None:
    """Two in a hundred requests fail in both builds."""
    rng, called = np.random.default_rng(12), 0
    for _ in range(150):
        failed = rng.binomial(100, 0.02, (2, 12))
        arms = [[(int(k), 100) for k in arm] for arm in failed]
        for n in range(4, 13, 2):
            mean, low, high = error_rate_interval(arms[0][:n], arms[1][:n], 0.05)
            if (low > 0 or high < 0) and abs(mean) > ERRORS_TOLERATED:
                called += 1
                break
    # Binomial(150, 0.05) exceeds 15 with a chance of 0.5 %.
    assert called <= 15


def made_pair(*valid: bool) -> tuple[_Run, _Run]:
    """Two runs of 20 requests, each of which kept its schedule or didn't."""
    whole = summarise(MadeRun(np.arange(20) * 10.0 * MS, np.full(20, 5.0 * MS)).run())
    runs = (dataclasses.replace(whole, validity=Validity(kept, (), ())) for kept in valid)
    first, second = (_Run(Path(f"{arm}.parquet"), run) for arm, run in zip("ab", runs, strict=True))
    return first, second


def test_a_pair_that_stays_invalid_is_left_out_and_two_in_a_row_end_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared = _Comparison(0.02, 9)
    given = [(True, True), (True, False), (True, True), (False, True), (False, False)]
    assert not any(compared.is_over(made_pair(*valid)) for valid in given[:4])
    with pytest.raises(RunInvalid, match="2 pairs in a row were INVALID twice, valid ones wanted; leave"):
        compared.is_over(made_pair(*given[4]))
    assert compared.result is not None
    assert (compared.result.pairs, compared.left_out) == (2, 3)
    _show(compared, compared.result, ("build-a", "build-b"), as_json=False)
    said, told = capsys.readouterr()
    assert "2 pairs of runs; 3 more left out, with a run that stayed INVALID" in " ".join(said.split())
    assert "pair 2 of at most 9: left out, for a run of it was INVALID twice." in told
    _show(compared, compared.result, ("build-a", "build-b"), as_json=True)
    assert json.loads(capsys.readouterr().out)["pairs_left_out"] == 3
