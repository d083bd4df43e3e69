"""Where a series of results changed for good: E-divisive with means, and what it may claim.

A series is one figure of one run after another. Which figures are followed, and what a change means for a
build, is not decided here.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from replay.analysis.run_table import Floats

LEAST_SIDE = 3
"""Fewer runs on a side than this are no level to have changed to or from."""

MOST_RUNS = 300
"""The distances of all pairs are held: of a longer series the latest so many runs are looked at."""


@dataclasses.dataclass(frozen=True)
class ChangePoint:
    """From run `at` on (its index in the series) the level is another: medians before and after, and p."""

    at: int
    before: float
    after: float
    p_value: float

    @property
    def change(self) -> float:
        """The change as a share of the level before; NaN where that is 0."""
        return (self.after - self.before) / self.before if self.before else math.nan


def change_points(
    values: Floats, rng: np.random.Generator, *, alpha: float = 0.05, permutations: int = 999
) -> tuple[ChangePoint, ...]:
    """The change points of `values` (float64[n], in the order of the runs, no NaN), first to last.

    E-divisive: D. S. Matteson, N. A. James: A nonparametric approach for multiple change point analysis of
    multivariate data. J. Amer. Statist. Assoc. 109 (2014), 334–345, with α = 1; the segment is split where
    the energy statistic is largest, and the split kept when at most `alpha` of random orders of the segment
    split as well (their permutation test); then both parts are looked at. Its use for performance results
    of builds: D. Daly et al., ICPE 2020. Later splits are only tried within parts of a significant one, so
    the chance to see any change in a series without one is at most `alpha`. Raises `ValueError` for NaN.
    """
    if np.isnan(values).any():
        raise ValueError("a series with a missing value has no distances")
    if len(values) < 2 * LEAST_SIDE:
        return ()
    skipped = max(0, len(values) - MOST_RUNS)
    recent = values[skipped:]
    found: dict[int, float] = {}
    open_parts = [(0, len(recent))]
    while open_parts:
        start, end = open_parts.pop()
        split = _split(recent[start:end], rng, alpha, permutations)
        if split is not None:
            at, p_value = split
            found[start + at] = p_value
            open_parts += [(start, start + at), (start + at, end)]
    return tuple(_described(recent, sorted(found), found, skipped))


def _described(values: Floats, ats: list[int], p_values: dict[int, float], skipped: int) -> list[ChangePoint]:
    edges = [0, *ats, len(values)]
    medians = [float(np.median(values[a:b])) for a, b in itertools.pairwise(edges)]
    return [
        ChangePoint(at + skipped, before, after, p_values[at])
        for at, before, after in zip(ats, medians[:-1], medians[1:], strict=True)
    ]


def _split(
    part: Floats, rng: np.random.Generator, alpha: float, permutations: int
) -> tuple[int, float] | None:
    if len(part) < 2 * LEAST_SIDE or np.ptp(part) == 0:
        return None
    distances = np.abs(part[:, None] - part[None, :])
    statistics = _energy(distances)
    best = float(statistics.max())
    as_large = 1
    for _ in range(permutations):
        order = rng.permutation(len(part))
        as_large += float(_energy(distances[np.ix_(order, order)]).max()) >= best * (1 - 1e-12)
        if as_large > alpha * (permutations + 1):
            return None
    return int(statistics.argmax()) + LEAST_SIDE, as_large / (permutations + 1)


def _energy(distances: Floats) -> Floats:
    """Q of every split that leaves `LEAST_SIDE` on both sides: float64[n − 2·LEAST_SIDE + 1].

    Q = mn/(m+n) · (2·mean between − mean within left − mean within right), means over distinct pairs.
    """
    n = len(distances)
    left = np.arange(LEAST_SIDE, n - LEAST_SIDE + 1)
    right = n - left
    whole = distances.cumsum(0).cumsum(1)
    within_left = whole[left - 1, left - 1]
    to_left = whole[n - 1, left - 1]
    between = to_left - within_left
    within_right = whole[n - 1, n - 1] - 2 * to_left + within_left
    energy = (
        2 * between / (left * right)
        - within_left / (left * (left - 1))
        - within_right / (right * (right - 1))
    )
    return np.asarray(energy * left * right / n)
