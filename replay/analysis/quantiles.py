"""Harrell–Davis quantiles: of a sample, and of many resamples of it at once.

F. E. Harrell, C. E. Davis: A new distribution-free quantile estimator. Biometrika 69 (1982), 635–640:
Q(p) = Σ x_(i) [B(i/n) − B((i−1)/n)], B the distribution function of Beta((n+1)p, (n+1)(1−p)).
It uses every order statistic near the quantile, so it is less noisy than one or two of them, and it is
smooth, as a bootstrap wants it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from replay.analysis.run_table import Floats, Ints

MOST_BINS = 4096
"""A larger sample is resampled as this many bins of equal count, each at its mean: 1/40 of a p99's tail."""

_GRID = 8192
_REACH = 9.0  # standard deviations of the Beta beyond which its tails are nought


def harrell_davis(values: Floats, quantiles: Sequence[float]) -> Floats:
    """The Harrell–Davis estimates of `values` (any order), float64 per quantile; NaN of an empty sample."""
    n = len(values)
    if n == 0:
        return np.full(len(quantiles), np.nan)
    ordered = np.sort(values)
    p = np.asarray(quantiles, dtype=np.float64)[:, None]
    at = np.arange(n + 1) / n
    weights = np.diff(special.betainc((n + 1) * p, (n + 1) * (1 - p), at[None, :]), axis=1)
    return np.asarray(weights @ ordered)


def resampled_quantiles(
    values: Floats, cell: Ints, multiplicity: npt.NDArray[np.float32], quantiles: Sequence[float]
) -> Floats:
    """Harrell–Davis estimates of resamples in which all values of a cell appear `multiplicity` times.

    `cell` (int64 per value) indexes the columns of `multiplicity` (float32, resamples × cells). What comes
    back is float64, resamples × quantiles; NaN where a resample holds no value. A value that appears m
    times covers m/N of the Beta's axis, so the weights come from cumulated multiplicities; the Beta keeps
    the parameters of the original size.
    """
    ordered, cumulated = _cumulated(values, cell, multiplicity)
    total = cumulated[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = cumulated / total
    fraction[total[:, 0] == 0] = 1.0
    out = np.empty((len(multiplicity), len(quantiles)))
    for column, p in enumerate(quantiles):
        out[:, column] = _weighted(ordered, fraction, p, len(values))
    out[total[:, 0] == 0] = np.nan
    return out


def _cumulated(
    values: Floats, cell: Ints, multiplicity: npt.NDArray[np.float32]
) -> tuple[Floats, npt.NDArray[np.floating]]:
    """Distinct points in ascending order, and per resample how many values lie at or below each."""
    order = np.argsort(values, kind="stable")
    ordered, cell = values[order], cell[order]
    n = len(ordered)
    if n <= MOST_BINS:
        return ordered, np.cumsum(multiplicity[:, cell], axis=1, dtype=np.float32)
    bins = (np.arange(n) * MOST_BINS) // n
    size = np.bincount(bins, minlength=MOST_BINS)
    means = np.bincount(bins, weights=ordered, minlength=MOST_BINS) / size
    cells = multiplicity.shape[1]
    counts = np.bincount(cell * MOST_BINS + bins, minlength=cells * MOST_BINS).reshape(cells, MOST_BINS)
    # Counts beyond 2^24 are not exact in float32.
    dtype = np.float32 if n < 1 << 21 else np.float64
    return means, np.cumsum(multiplicity.astype(dtype) @ counts.astype(dtype), axis=1)


def _weighted(ordered: Floats, fraction: npt.NDArray[np.floating], p: float, n: int) -> Floats:
    """Σ x_i ΔB by parts: x_last − Σ B(fraction_i) (x_{i+1} − x_i), B looked up in a table.

    Only the points that any resample puts where B is neither 0 nor 1 are looked up.
    """
    spread = np.sqrt(p * (1 - p) / (n + 2))
    low, high = max(0.0, p - _REACH * spread), min(1.0, p + _REACH * spread)
    table = special.betainc((n + 1) * p, (n + 1) * (1 - p), np.linspace(low, high, _GRID + 1))
    table[0], table[-1] = 0.0, 1.0
    step = np.diff(ordered)
    inner = fraction[:, :-1]
    first = int(np.searchsorted(inner.max(axis=0), low)) if inner.size else 0
    last = int(np.searchsorted(inner.min(axis=0), high, side="right")) if inner.size else 0
    place = (inner[:, first:last] - low) * (_GRID / (high - low))
    index = np.clip(np.rint(place), 0, _GRID).astype(np.int32)
    return np.asarray(ordered[-1] - step[last:].sum() - table[index] @ step[first:last], dtype=np.float64)
