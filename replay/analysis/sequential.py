"""Intervals that hold at every look: the mean of paired differences while more of them come in.

Whoever looks after each pair and stops when it pleases needs more than a t-interval at a fixed n. Which
differences are taken, and what an interval amounts to, is decided in `interleaved`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

PRIOR: Final = 10.0
"""The variance of a difference that is worth finding, in those of the noise between pairs: it moves how soon
an interval becomes narrow, never whether it holds."""

MOST_PAIRS: Final = 1000


def anytime_interval(differences: Sequence[float], alpha: float) -> tuple[float, float, float]:
    """The mean of the differences, and the ends of its confidence sequence at 1 − `alpha`.

    It covers the true mean at all n at once with that probability, for independent normal differences of
    unknown variance. It inverts the t-test with a normal prior N(0, g) on mean/σ and the right Haar prior on
    σ, whose Bayes factor at n differences (ν = n − 1, t² = n m²/s²) is
    (1 + ng)^(−1/2) ((1 + t²/ν) / (1 + t²/((1 + ng)ν)))^((ν+1)/2), an e-process of the scale-invariant
    data: P. Grünwald, R. de Heide, W. Koolen: Safe testing. J. Roy. Statist. Soc. B 86 (2024), 1091–1128;
    M. Pérez-Ortiz et al.: E-statistics, group invariance and anytime-valid testing. Ann. Statist. 52 (2024),
    1410–1432; H. Wang, A. Ramdas: Anytime-valid t-tests and confidence sequences for Gaussian means with
    unknown variance. Sequential Analysis 44 (2025). Infinite ends where n is too small to say anything.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n == 0:
        return math.nan, -math.inf, math.inf
    mean = float(values.mean())
    if n == 1:
        return mean, -math.inf, math.inf
    half = half_width(float(values.std(ddof=1)), n, alpha)
    return mean, mean - half, mean + half


def half_width(deviation: float, n: int, alpha: float) -> float:
    """Half the width of the confidence sequence after `n` differences with such a standard deviation."""
    freedom, spread = n - 1, 1.0 + n * PRIOR
    bound = (spread / alpha**2) ** (1.0 / n)
    if freedom < 1 or bound >= spread:
        return math.inf
    t_squared = freedom * (bound - 1.0) / (1.0 - bound / spread)
    return deviation * math.sqrt(t_squared / n)


def pairs_until(wanted_half: float, deviation: float, n: int, alpha: float) -> int | None:
    """How many more pairs until half the width is `wanted_half`, if the noise stays; None beyond 1,000."""
    return next(
        (more for more in range(MOST_PAIRS - n) if half_width(deviation, n + more, alpha) <= wanted_half),
        None,
    )
