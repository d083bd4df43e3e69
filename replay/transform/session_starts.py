"""Session starts drawn from an arrival process: rate curve, bursts, and the shape of the gaps.

The process is a renewal process in operational time, mapped to the clock through the inverse of the
cumulated rate (Gerhardt & Nelson, "Transforming renewal processes for simulation of nonstationary arrival
processes", INFORMS J. Computing 2009; ServeGen draws Gamma or Weibull gaps per window in the same sense).
Finding the parameters is in `arrival_fit`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import gammaln

from replay.transform.profile import EXPONENTIAL, GAMMA, Arrivals

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

MOST_CELLS: Final = 20_000_000


def draw_starts(arrivals: Arrivals, rng: np.random.Generator, factor: float = 1.0) -> Int64:
    """Session starts in ns, int64 ascending, in [0, span): `factor` times as many users on the same curve."""
    edges_s, rate = _modulated(arrivals, rng)
    cumulated = np.concatenate(([0.0], np.cumsum(rate * np.diff(edges_s)))) * factor
    if arrivals.family == (EXPONENTIAL,) or arrivals.cv == (1.0,):
        operational = np.sort(rng.random(rng.poisson(cumulated[-1])) * cumulated[-1])
    else:
        window_ends = np.arange(1, len(arrivals.rate_per_s) + 1) * arrivals.window_s
        operational = _renewals(arrivals, np.interp(window_ends, edges_s, cumulated), rng)
    # A cell without any rate holds no instant: of equal sums the last one counts.
    cell = np.minimum(np.searchsorted(cumulated, operational, side="right") - 1, len(rate) - 1)
    at_s = edges_s[cell] + (operational - cumulated[cell]) / (np.maximum(rate[cell], 1e-300) * factor)
    at_ns: Int64 = np.minimum(np.rint(at_s * 1e9), arrivals.span_s * 1e9 - 1).astype(np.int64)
    return at_ns


def unit_gaps(
    family: str, cv: float, size: int, rng: np.random.Generator, *, residual: bool = False
) -> Float64:
    """Gaps of mean 1 with coefficient of variation `cv`, float64[size].

    A `residual` gap is what is left of one at a random instant: a length-biased gap times a uniform draw.
    """
    if family == EXPONENTIAL or cv == 1:
        return rng.exponential(size=size)
    uniform = rng.random(size) if residual else 1.0
    if family == GAMMA:
        shape = cv**-2
        return rng.gamma(shape + residual, 1 / shape, size) * uniform
    shape = weibull_shape(cv)
    scale = float(np.exp(-gammaln(1 + 1 / shape)))
    return scale * rng.gamma(1 + residual / shape, 1.0, size) ** (1 / shape) * uniform


def weibull_shape(cv: float) -> float:
    """The Weibull shape with coefficient of variation `cv` (0.02 … 50; beyond, that of the nearest)."""

    def excess(shape: float) -> float:
        return float(
            gammaln(1 + 2 / shape) - 2 * gammaln(1 + 1 / shape) - np.log1p(min(max(cv, 0.02), 50) ** 2)
        )

    return float(brentq(excess, 0.08, 80))


def _modulated(arrivals: Arrivals, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Cell edges in s, float64[k + 1], and the rate in each cell, float64[k]: the curve times all bursts."""
    span_s = arrivals.span_s
    windows = np.arange(len(arrivals.rate_per_s) + 1) * arrivals.window_s
    grids = []
    for burst in arrivals.bursts:
        cells = min(int(span_s / burst.scale_s) + 2, MOST_CELLS)
        starts = (np.arange(cells) - rng.random()) * max(burst.scale_s, span_s / (cells - 1))
        shape = 1 / burst.variance
        grids.append((starts, rng.gamma(shape, 1 / shape, cells)))
    edges = np.unique(np.concatenate([windows, *(starts for starts, _ in grids)]))
    edges = edges[(edges >= 0) & (edges <= span_s)]
    left = edges[:-1]
    rate = np.asarray(arrivals.rate_per_s)[np.searchsorted(windows, left, side="right") - 1]
    for starts, factors in grids:
        rate = rate * factors[np.searchsorted(starts, left, side="right") - 1]
    return edges, rate


def _renewals(arrivals: Arrivals, window_ends: Float64, rng: np.random.Generator) -> Float64:
    """Renewal instants in operational time; a gap has the shape of the window in which it begins."""
    n = len(window_ends)
    families = arrivals.family if len(arrivals.family) == n else arrivals.family[:1] * n
    cvs = arrivals.cv if len(arrivals.cv) == n else arrivals.cv[:1] * n
    pieces = []
    at = float(unit_gaps(families[0], cvs[0], 1, rng, residual=True)[0])
    for end, family, cv in zip(window_ends.tolist(), families, cvs, strict=True):
        while at < end:
            size = int(1.1 * (end - at) + 10)
            gaps = unit_gaps(family, cv, size, rng)
            instants = at + np.concatenate(([0.0], np.cumsum(gaps)))
            inside = int(np.searchsorted(instants, end, side="left"))
            pieces.append(instants[: min(inside, size)])
            at = float(instants[min(inside, size)])
    return np.concatenate(pieces) if pieces else np.empty(0)
