"""Intervals that hold at every look, while more runs come in: of a mean difference, and of two proportions.

Whoever looks after each pair and stops when it pleases needs more than a t-interval at a fixed n. Which
differences are taken, and what an interval amounts to, is decided in `interleaved`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import special

from replay.analysis.distributions import crossing

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


def anytime_difference(
    baseline: tuple[int, int], candidate: tuple[int, int], alpha: float
) -> tuple[float, float]:
    """The ends of a confidence sequence for p' − p, both counted so far as (events, trials).

    It covers the true difference at all counts at once with probability 1 − `alpha`, exactly and also where
    no event was seen, for independent trials of probability p and p'. Per arm, with k events of n, the ratio
    M(p) = m(k, n) / (p^k (1 − p)^(n−k)) of a mixture's likelihood to the truth's is a martingale (H. Robbins:
    Statistical methods related to the law of the iterated logarithm. Ann. Math. Statist. 41 (1970),
    1397–1409; S. Howard et al.: Time-uniform, nonparametric, nonasymptotic confidence sequences. Ann.
    Statist. 49 (2021), 1055–1080), and so is M(p) M'(p'), which stays below 1/alpha (Ville). Mixed are p = 0
    and Jeffreys's prior, half and half: without any event both p are below (ln 1/alpha + 1.4)/n.
    """
    high = _largest_difference(baseline, candidate, alpha)
    return -_largest_difference(candidate, baseline, alpha), high


def _largest_difference(lower: tuple[int, int], upper: tuple[int, int], alpha: float) -> float:
    """The largest p' − p with ln M(p) + ln M'(p') ≤ ln 1/alpha; p is of `lower`.

    Both are convex, so at the end their slopes are −s and s: one root in s. 1 where an arm has no trial.
    """
    if not lower[1] or not upper[1]:
        return 1.0

    def ends(log_slope: float) -> tuple[float, float]:
        slope = math.exp(log_slope)
        (k, n), (k_upper, n_upper) = lower, upper
        least = 2.0 * k / (n + slope + math.sqrt((n - slope) ** 2 + 4.0 * slope * (n - k)))
        root = math.sqrt((n_upper - slope) ** 2 + 4.0 * slope * k_upper)
        if slope < n_upper:
            return least, min(2.0 * k_upper / (n_upper - slope + root), 1.0)
        return least, min((slope - n_upper + root) / (2.0 * slope), 1.0)

    def excess(log_slope: float) -> float:
        least, most = ends(log_slope)
        return _log_martingale(lower, least) + _log_martingale(upper, most) + math.log(alpha)

    steepest = math.log(sum((*lower, *upper))) + 60.0
    if excess(steepest) <= 0.0:  # all events or none, of hardly any trials
        return 1.0
    least, most = ends(crossing(excess, -60.0, steepest, halvings=40))
    return most - least


def _log_martingale(counted: tuple[int, int], p: float) -> float:
    k, n = counted
    mixed = special.betaln(0.5 + k, 0.5 + n - k) - special.betaln(0.5, 0.5)
    log_mixture = float(np.logaddexp(mixed, 0.0) if k == 0 else mixed) - math.log(2.0)
    return log_mixture - float(special.xlogy(k, p) + special.xlog1py(n - k, -p))
