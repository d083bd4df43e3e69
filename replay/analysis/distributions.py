"""Tails and quantiles of the distributions that verdicts are made with.

By `scipy.special`: `scipy.stats` gives the same numbers, but takes more than half a second to import, which
each command that judges a run would wait for. Nothing is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

Floats = npt.NDArray[np.float64]


def crossing(beyond: Callable[[float], float], low: float, high: float, halvings: int = 25) -> float:
    """Where `beyond`, which grows from below zero at `low` to zero or more at `high`, crosses it.

    By bisection, from above: `scipy.optimize` is slow to import, too.
    """
    for _ in range(halvings):
        middle = (low + high) / 2.0
        low, high = (middle, high) if beyond(middle) < 0.0 else (low, middle)
    return high


def student_quantile(share: float, freedom: float) -> float:
    """The value that Student's t with `freedom` degrees stays below with probability `share`."""
    return float(special.stdtrit(freedom, share))


def student_tails(t: float, freedom: float) -> float:
    """The probability that Student's t with `freedom` degrees is further from 0 than `t`."""
    return float(2.0 * special.stdtr(freedom, -abs(t)))


def normal_quantile(share: float) -> float:
    """The value that a standard normal variable stays below with probability `share`."""
    return float(special.ndtri(share))


def chi2_quantiles(shares: Floats, freedom: float) -> Floats:
    """Values that χ² with `freedom` degrees stays below with probability `shares`, float64."""
    return np.asarray(2.0 * special.gammaincinv(freedom / 2.0, shares))


def beta_quantile(share: float, a: float, b: float) -> float:
    """The value that Beta(a, b) stays below with probability `share`; 1 where `b` is 0."""
    return float(special.betaincinv(a, b, share)) if b > 0 else 1.0


def sign_test(one: int, other: int) -> float:
    """p-value, two-sided, of so many signs of either kind where each is as likely; 1 without any."""
    return min(1.0, 2.0 * float(special.bdtr(min(one, other), one + other, 0.5)))


def more_often(one: int, other: int) -> float:
    """p-value, one-sided, for `one` being the likelier of two kinds of sign; 1 without any."""
    return float(special.bdtrc(one - 1, one + other, 0.5)) if one else 1.0


def spearman(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Spearman's rank correlation, ties averaged, and its two-sided p-value.

    By Student's t with n − 2 degrees of freedom. Neither may be constant. C. Spearman, American Journal of
    Psychology 15, 1904.
    """
    rho = float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])
    freedom, left = len(x) - 2, (1.0 + rho) * (1.0 - rho)
    return rho, student_tails(rho * math.sqrt(freedom / left), freedom) if left > 0.0 else 0.0


def _ranks(values: npt.NDArray[np.generic]) -> Floats:
    """Ranks from 1, equal values share the mean of theirs."""
    array = pa.array(values)
    low, high = (pc.rank(array, "ascending", tiebreaker=side).to_numpy() for side in ("min", "max"))
    return np.asarray((low + high) / 2.0)
