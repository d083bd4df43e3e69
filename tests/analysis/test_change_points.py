"""Change points: found where a level moved, not where it only wandered, with the chance that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.analysis.change_points import LEAST_SIDE, MOST_RUNS, _energy, change_points


def energy_by_definition(values: np.ndarray, at: int) -> float:
    """Q as Matteson & James write it, equations 5 and 6, loops and all."""
    left, right = values[:at], values[at:]

    def mean_pairs(part: np.ndarray) -> float:
        pairs = [abs(a - b) for i, a in enumerate(part) for b in part[:i]]
        return float(np.mean(pairs))

    between = float(np.mean([abs(a - b) for a in left for b in right]))
    scale = len(left) * len(right) / len(values)
    return scale * (2 * between - mean_pairs(left) - mean_pairs(right))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=14))
def test_the_statistic_is_the_one_of_the_paper(values: list[float]) -> None:
    series = np.array(values)
    found = _energy(np.abs(series[:, None] - series[None, :]))
    ats = range(LEAST_SIDE, len(values) - LEAST_SIDE + 1)
    wanted = [energy_by_definition(series, at) for at in ats]
    np.testing.assert_allclose(found, wanted, atol=1e-6 * (1 + np.ptp(series)))


@pytest.mark.parametrize(
    ("levels", "ats"),
    [
        ([(100.0, 20)], []),
        ([(100.0, 12), (110.0, 12)], [12]),
        ([(100.0, 15), (110.0, 15), (100.0, 15)], [15, 30]),
        ([(100.0, 40), (90.0, 5)], [40]),
    ],
)
def test_steps_are_found_where_they_are(levels: list[tuple[float, int]], ats: list[int]) -> None:
    rng = np.random.default_rng(7)
    series = np.concatenate([level + rng.normal(0, 1, runs) for level, runs in levels])
    found = change_points(series, np.random.default_rng(0), alpha=0.01)
    assert [change.at for change in found] == ats
    for change, (before, _), (after, _) in zip(found, levels[:-1], levels[1:], strict=True):
        assert change.before == pytest.approx(before, abs=1.5)
        assert change.after == pytest.approx(after, abs=1.5)
        assert change.change == pytest.approx(after / before - 1, abs=0.03)


def test_a_series_without_a_change_is_seldom_given_one() -> None:
    rng = np.random.default_rng(3)
    called = sum(
        bool(change_points(rng.exponential(1, 20), rng, alpha=0.05, permutations=199)) for _ in range(200)
    )
    # Binomial(200, 0.05) exceeds 18 with a chance of 0.5 %.
    assert called <= 18


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0, 1.0, 9.0, 1.0], [5.0] * 40])
def test_too_few_or_equal_runs_have_no_change(values: list[float]) -> None:
    assert change_points(np.array(values), np.random.default_rng(0)) == ()


def test_of_a_long_series_the_latest_part_is_looked_at() -> None:
    series = np.concatenate([np.zeros(50), np.ones(MOST_RUNS - 20), np.full(20, 2.0)])
    series += np.random.default_rng(1).normal(0, 0.01, len(series))
    found = change_points(series, np.random.default_rng(0), permutations=99)
    assert [change.at for change in found] == [30 + MOST_RUNS]


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ValueError, match="missing"):
        change_points(np.array([1.0, np.nan]), np.random.default_rng(0))
