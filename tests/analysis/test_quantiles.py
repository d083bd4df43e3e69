"""Harrell–Davis quantiles: against scipy's, and resampled ones against samples written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mstats

from replay.analysis.quantiles import COARSE_BINS, FINE_BINS, harrell_davis, resampled_quantiles

QUANTILES = (0.5, 0.9, 0.95, 0.99)


@pytest.mark.parametrize("n", [2, 5, 40, 777])
def test_agrees_with_scipys_hdquantiles(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=n)
    expected = mstats.hdquantiles(values, QUANTILES)
    np.testing.assert_allclose(harrell_davis(values, QUANTILES), expected, rtol=1e-9)


def test_median_of_three_has_the_weights_of_beta_2_2() -> None:
    # Beta(2, 2): B(1/3) = 3/9 − 2/27 = 7/27, so the weights are 7, 13, 7 of 27.
    assert harrell_davis(np.array([30.0, 0.0, 3.0]), (0.5,))[0] == pytest.approx((13 * 3 + 7 * 30) / 27)


def test_nothing_has_no_quantile() -> None:
    assert np.isnan(harrell_davis(np.array([]), QUANTILES)).all()


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=60), st.floats(0.1, 10), st.floats(-1e6, 1e6))
def test_moves_and_scales_with_its_values(found: list[float], scale: float, shift: float) -> None:
    values = np.array(found)
    moved = harrell_davis(values * scale + shift, QUANTILES)
    np.testing.assert_allclose(moved, harrell_davis(values, QUANTILES) * scale + shift, rtol=1e-6, atol=1e-3)


@given(st.integers(0, 10_000), st.integers(3, 300))
@settings(max_examples=40, deadline=None)
def test_once_each_is_the_sample_itself(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=n)
    cells = np.arange(n) % 7
    once = resampled_quantiles(values, cells, np.ones((2, 7), np.float32), QUANTILES)
    spread = np.ptp(values)
    np.testing.assert_allclose(once[0], harrell_davis(values, QUANTILES), atol=2e-3 * spread)
    np.testing.assert_array_equal(once[0], once[1])


def test_multiplicities_weigh_like_the_sample_written_out() -> None:
    rng = np.random.default_rng(4)
    values, cells = rng.lognormal(size=400), rng.integers(0, 10, 400)
    times = np.array([[3, 0, 1, 1, 2, 0, 0, 1, 1, 1]], dtype=np.float32)
    written_out = np.repeat(values, times[0, cells].astype(int))
    got = resampled_quantiles(values, cells, times, (0.5, 0.9))[0]
    # The Beta keeps the original sample's size, so the two differ by a trifle of smoothing only.
    np.testing.assert_allclose(got, harrell_davis(written_out, (0.5, 0.9)), rtol=0.02)


def test_binning_a_large_sample_changes_a_p99_by_less_than_a_tenth_of_its_noise() -> None:
    rng = np.random.default_rng(5)
    values = rng.lognormal(size=FINE_BINS * COARSE_BINS * 2)
    cells = np.arange(len(values)) % 50
    binned = resampled_quantiles(values, cells, np.ones((1, 50), np.float32), QUANTILES)[0]
    np.testing.assert_allclose(binned, harrell_davis(values, QUANTILES), rtol=2e-3)


def test_a_resample_that_drew_no_value_has_no_quantile() -> None:
    drawn = np.array([[0, 2], [1, 1]], dtype=np.float32)
    got = resampled_quantiles(np.array([1.0, 2.0]), np.array([0, 0]), drawn, (0.5,))
    assert np.isnan(got[0, 0])
    assert got[1, 0] == pytest.approx(1.5, abs=1e-3)
