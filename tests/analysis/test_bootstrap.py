"""The stationary bootstrap's laws, and the block length that Politis and White's rule finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.analysis.bootstrap import (
    politis_white,
    stationary_indices,
    stationary_multiplicities,
    stationary_variance,
)


@given(st.integers(1, 80), st.floats(1, 30), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_each_resample_is_as_long_as_the_series(cells: int, block: float, seed: int) -> None:
    drawn = stationary_multiplicities(cells, block, 20, np.random.default_rng(seed))
    assert drawn.shape == (20, cells)
    np.testing.assert_array_equal(drawn.sum(axis=1), cells)


def test_block_lengths_are_geometric_with_the_mean_asked_for() -> None:
    cells, block = 500, 8.0
    index = stationary_indices(cells, block, 400, np.random.default_rng(1))
    continues = (index[:, 1:] - index[:, :-1]) % cells == 1
    # A block ends with probability 1/8; a fresh one continues by chance with 1/500.
    assert continues.mean() == pytest.approx(1 - 1 / block + 1 / block / cells, abs=0.004)
    # Memoryless: it makes no difference whether the step before continued.
    assert continues[:, 1:][continues[:, :-1]].mean() == pytest.approx(continues.mean(), abs=0.004)


def test_each_cell_is_as_likely_as_another() -> None:
    drawn = stationary_multiplicities(40, 5.0, 20_000, np.random.default_rng(2))
    np.testing.assert_allclose(drawn.mean(axis=0), 1.0, atol=0.05)


def test_blocks_of_one_are_the_plain_bootstrap() -> None:
    drawn = stationary_multiplicities(50, 1.0, 4000, np.random.default_rng(3))
    assert drawn.var() == pytest.approx(1 - 1 / 50, rel=0.03)


@pytest.mark.parametrize("block", [1.0, 4.0, 15.0])
def test_the_variance_of_resamples_is_known_without_drawing_them(block: float) -> None:
    series = np.random.default_rng(5).normal(size=60).cumsum()
    series -= series.mean()
    drawn = stationary_multiplicities(60, block, 20_000, np.random.default_rng(6)) @ series
    found = stationary_variance(np.column_stack([series, 2 * series]), block)
    assert found[0] == pytest.approx(drawn.var(), rel=0.05)
    assert found[1] == pytest.approx(4 * found[0])


def ar1(rho: float, n: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=n)
    series = np.empty(n)
    level = noise[0] / np.sqrt(1 - rho**2)
    for i in range(n):
        level = rho * level + noise[i]
        series[i] = level
    return series


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8])
def test_politis_white_finds_the_known_length_of_an_ar1(rho: float) -> None:
    n = 2000
    # For an AR(1), G/g = 2ρ/(1 − ρ²), so b = (2ρ/(1 − ρ²))^(2/3) n^(1/3).
    known = (2 * rho / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
    found = np.median([politis_white(ar1(rho, n, seed)) for seed in range(40)])
    assert found == pytest.approx(known, rel=0.25)


def test_independent_values_need_short_blocks() -> None:
    found = [politis_white(np.random.default_rng(seed).normal(size=500)) for seed in range(40)]
    assert np.median(found) < 4


def test_a_drift_asks_for_long_blocks_but_for_none_beyond_the_limit() -> None:
    assert 300 / 8 < politis_white(np.arange(300.0)) <= 3 * np.sqrt(300)
    assert politis_white(np.arange(20.0)) <= 20 / 3


@pytest.mark.parametrize("series", [np.zeros(50), np.full(50, 7.0), np.array([]), np.array([1.0, 2.0])])
def test_a_series_without_news_gives_single_cells(series: np.ndarray) -> None:
    assert politis_white(series) == 1.0


@given(st.integers(0, 500), st.floats(0.01, 1000))
@settings(max_examples=30, deadline=None)
def test_the_length_knows_no_unit_and_no_sign(seed: int, scale: float) -> None:
    series = ar1(0.5, 200, seed)
    assert politis_white(-scale * series) == pytest.approx(politis_white(series))
