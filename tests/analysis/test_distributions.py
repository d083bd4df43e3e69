"""Tails and quantiles: the same numbers as scipy.stats, without waiting for its import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from replay.analysis import distributions as ours

shares = st.floats(1e-9, 1 - 1e-9)
freedoms = st.one_of(st.floats(0.5, 1e6), st.just(np.inf))
counts = st.integers(0, 300)


@given(shares, freedoms)
def test_student_s_quantiles_and_tails(share: float, freedom: float) -> None:
    quantile = ours.student_quantile(share, freedom)
    assert quantile == pytest.approx(stats.t.ppf(share, freedom), rel=1e-6)
    tails = min(2 * share, 2 * (1 - share))
    assert ours.student_tails(quantile, freedom) == pytest.approx(tails, rel=1e-3)


@given(shares, st.floats(0.5, 1e4), counts, counts)
def test_other_quantiles(share: float, freedom: float, a: int, b: int) -> None:
    assert ours.normal_quantile(share) == pytest.approx(stats.norm.ppf(share), rel=1e-9)
    assert ours.chi2_quantiles(np.array([share]), freedom) == pytest.approx(stats.chi2.ppf(share, freedom))
    wanted = stats.beta.ppf(share, a + 1, b) if b else 1.0
    assert ours.beta_quantile(share, a + 1, b) == pytest.approx(wanted)


@given(counts, counts)
def test_signs_are_counted_as_by_the_binomial_test(one: int, other: int) -> None:
    if one + other:
        test = stats.binomtest(one, one + other, 0.5)
        assert ours.sign_test(one, other) == pytest.approx(test.pvalue)
        more = stats.binomtest(one, one + other, 0.5, alternative="greater")
        assert ours.more_often(one, other) == pytest.approx(more.pvalue)
    else:
        assert ours.sign_test(one, other) == ours.more_often(one, other) == 1.0


@given(st.lists(st.tuples(st.integers(-5, 5), st.floats(-1e6, 1e6)), min_size=5, max_size=80))
def test_spearman_with_ties(pairs: list[tuple[int, float]]) -> None:
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    if np.ptp(x) and np.ptp(y):
        rho, p_value = ours.spearman(x, y)
        wanted = stats.spearmanr(x, y)
        assert rho == pytest.approx(wanted.statistic, abs=1e-9)
        assert p_value == pytest.approx(wanted.pvalue, abs=1e-6)


def test_no_command_that_judges_a_run_imports_scipy_stats() -> None:
    code = """
import sys
import replay.analysis.diff, replay.analysis.summary, replay.analysis.validity, replay.report.html
import replay.report.terminal, replay.transform.inspection, replay.transform.plan, replay.engine.supervisor
sys.exit("scipy.stats" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
