"""Harrell–Davis quantiles: of a sample, and of many resamples of it at once.

F. E. Harrell, C. E. Davis: A new distribution-free quantile estimator. Biometrika 69 (1982), 635–640:
Q(p) = Σ x_(i) [B(i/n) − B((i−1)/n)], B the distribution function of Beta((n+1)p, (n+1)(1−p)).
It uses every order statistic near the quantile, so it is less noisy than one or two of them, and it is
smooth, as a bootstrap wants it. Order statistics so far off that B is 0 or 1 there are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from replay.analysis.run_table import Floats, Ints

NEGLIGIBLE = 1e-12
"""What the weights left out at either side of a quantile sum up to, at most."""

MOST_WEIGHTS = 1024
"""An estimate takes more order statistics than so many in groups, each at its mean."""

COARSE_BINS = 64
FINE_BINS = 128
"""The order statistics that matter to a quantile in any resample are taken in as many bins of equal count,
each at its mean: a bin is then some tenth of the estimator's own spread, or of the resamples'."""

_GRID = 2048

type Ordered = npt.NDArray[np.floating]


def harrell_davis(values: Ordered, quantiles: Sequence[float]) -> Floats:
    """The Harrell–Davis estimates of `values` (any order), float64 per quantile; NaN of an empty sample."""
    return harrell_davis_of_ordered(np.sort(values), quantiles)


def harrell_davis_of_ordered(ordered: Ordered, quantiles: Sequence[float]) -> Floats:
    """As `harrell_davis`, of values in ascending order."""
    n = len(ordered)
    if n == 0:
        return np.full(len(quantiles), np.nan)
    found = np.empty(len(quantiles))
    for index, p in enumerate(quantiles):
        low, high = _support(n, p)
        edges = _edges(int(np.floor(low * n)), min(int(np.ceil(high * n)), n), MOST_WEIGHTS)
        below = special.betainc((n + 1) * p, (n + 1) * (1 - p), edges / n)
        below[0], below[-1] = 0.0, 1.0
        found[index] = np.diff(below) @ _means(ordered, edges)
    return found


def resampled_quantiles(
    values: Ordered, cell: Ints, multiplicity: npt.NDArray[np.float32], quantiles: Sequence[float]
) -> Floats:
    """Harrell–Davis estimates of resamples in which all values of a cell appear `multiplicity` times.

    `cell` (an integer per value) indexes the columns of `multiplicity` (float32, resamples × cells). What
    comes back is float64, resamples × quantiles; NaN where a resample holds no value. A value that appears
    m times covers m/N of the Beta's axis, so the weights come from cumulated multiplicities; the Beta keeps
    the parameters of the original size.
    """
    order = np.argsort(values, kind="stable")
    return resampled_of_ordered(values[order], cell[order], multiplicity, quantiles)


def resampled_of_ordered(
    ordered: Ordered,
    cell: npt.NDArray[np.integer],
    multiplicity: npt.NDArray[np.float32],
    quantiles: Sequence[float],
) -> Floats:
    """As `resampled_quantiles`, of values in ascending order.

    Nothing is sorted per resample, and few values are looked at: counts per cell and coarse bin tell for all
    resamples at once where a quantile may lie, and only that stretch is counted finely.
    """
    n, cells = len(ordered), multiplicity.shape[1]
    if n == 0:
        return np.full((len(multiplicity), len(quantiles)), np.nan)
    edges = _edges(0, n, COARSE_BINS)
    upto = np.zeros((len(multiplicity), len(edges)))
    np.cumsum(multiplicity @ counts_by_cell(cell, edges, cells), axis=1, out=upto[:, 1:])
    total = upto[:, -1]
    drawn = total > 0
    upto, total, weights = upto[drawn], total[drawn], multiplicity[drawn]
    out = np.full((len(multiplicity), len(quantiles)), np.nan)
    if not len(total):
        return out
    fraction = upto / total[:, None]
    least, most = fraction.min(axis=0), fraction.max(axis=0)
    for column, p in enumerate(quantiles):
        low, high = _support(n, p)
        # Below `first` no resample has any weight, from `last` on none has weight left.
        first = int(np.searchsorted(most, low, side="right")) - 1
        last = int(np.searchsorted(least, high, side="left"))
        fine = _edges(int(edges[first]), int(edges[last]), FINE_BINS)
        within = np.cumsum(weights @ counts_by_cell(cell, fine, cells), axis=1)
        within /= total[:, None].astype(np.float32)
        within += fraction[:, first, None].astype(np.float32)
        out[drawn, column] = _weighted(_means(ordered, fine), within, p, n, (low, high))
    return out


@functools.lru_cache(maxsize=256)
def _support(n: int, p: float) -> tuple[float, float]:
    """Where the Beta of a quantile's weights lies, but for `NEGLIGIBLE` at either end."""
    a, b = (n + 1) * p, (n + 1) * (1 - p)
    low, high = special.betaincinv(a, b, (NEGLIGIBLE, 0.5))[0], special.betainccinv(a, b, NEGLIGIBLE)
    return float(low), float(high)


def _edges(first: int, last: int, most: int) -> Ints:
    """Ranks that cut [first, last) into at most `most` bins of about equal count, none empty."""
    return np.unique(np.linspace(first, last, min(most, last - first) + 1).round().astype(np.int64))


def counts_by_cell(cell: npt.NDArray[np.integer], edges: Ints, cells: int) -> npt.NDArray[np.float32]:
    """How many values of each cell lie in each bin of ranks: float32, cells × bins.

    `cell` is the cell of each value in ascending order of value; `edges` are the ranks that cut the bins.

    Sums of these are exact up to 2^24, and beyond to a relative 1e-6: a hundredth of the Beta's spread then.
    """
    bins = len(edges) - 1
    if edges[-1] - edges[0] <= 64 * bins:
        inside = cell[edges[0] : edges[-1]].astype(np.int64) * bins + np.repeat(
            np.arange(bins), np.diff(edges)
        )
        return np.bincount(inside, minlength=cells * bins).reshape(cells, bins).astype(np.float32)
    counts = np.empty((cells, bins), dtype=np.float32)
    for column in range(bins):
        counts[:, column] = np.bincount(cell[edges[column] : edges[column + 1]], minlength=cells)
    return counts


def _means(ordered: Ordered, edges: Ints) -> Floats:
    inside = ordered[edges[0] : edges[-1]].astype(np.float64)
    return np.add.reduceat(inside, edges[:-1] - edges[0]) / np.diff(edges)


def _weighted(
    means: Floats, fraction: npt.NDArray[np.float32], p: float, n: int, support: tuple[float, float]
) -> Floats:
    """Σ x_i ΔB by parts: x_last − Σ B(fraction_i) (x_{i+1} − x_i), B looked up in a table."""
    low, high = support
    table = _beta_table(n, p)
    place = fraction[:, :-1] - np.float32(low - 0.5 * (high - low) / _GRID)
    place *= np.float32(_GRID / (high - low))
    index = np.clip(place, 0, _GRID, out=place).astype(np.int16)
    return np.asarray(means[-1] - table[index] @ np.diff(means), dtype=np.float64)


@functools.lru_cache(maxsize=64)
def _beta_table(n: int, p: float) -> Floats:
    """The Beta's distribution function at 2,049 places of its support; both arms and many groups share it."""
    table = special.betainc((n + 1) * p, (n + 1) * (1 - p), np.linspace(*_support(n, p), _GRID + 1))
    table[0], table[-1] = 0.0, 1.0
    return np.asarray(table, dtype=np.float64)
