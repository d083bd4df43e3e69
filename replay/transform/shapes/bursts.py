"""Bursts: arrivals that are burstier than they were, to a target coefficient of variation of their gaps.

The factor is drawn anew for each stretch of time of a given length, from a Gamma or Weibull law of mean 1, so
that arrivals become a Cox process: the mean rate stays, requests come in clusters. The law's shape is solved
for such that gaps have the wanted CV where the arrivals were a Poisson process of the same mean rate.

With φ(u) = E exp(−uΛ) of a stretch's rate Λ, stretches of length l and V the time from any instant to the
next arrival, E V = 1/l ∫₀ˡ (l − s) φ(s) ds + (∫₀ˡ φ)² / (l (1 − φ(l))), and by Palm's inversion formula gaps
have CV² = 2 λ E V − 1 (Baccelli & Brémaud, Elements of Queueing Theory, 1.2; the integrals over independent
stretches are this module's). For stretches that hold many arrivals and a Gamma law of shape k it goes to
(k + 1)/(k − 1).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import ClassVar, Final

import numpy as np

from capture.failures import BadInput
from replay.transform.moments import Moment, resolve
from replay.transform.settings import FACTOR, LENGTH, one_of, setting
from replay.transform.shapes.curves import Curve, Float64, Setting, Shape, constant

LAWS: Final = ("gamma", "weibull")
MOST_STRETCHES: Final = 5_000_000
HIGHEST: Final = 1000.0
_LEAST_SHAPE, _MOST_SHAPE = 0.05, 400.0
_QUANTILES: Final = 200
_GRID: Final = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bursts(Shape):
    """Gaps between arrivals get the coefficient of variation `cv` (above 1, which is Poisson's)."""

    word: ClassVar[str] = "bursts"
    wants_rate: ClassVar[bool] = True

    cv: float = setting("cv", FACTOR)
    each: Moment = setting("each", LENGTH, 1_000_000_000)
    law: str = setting("law", one_of(LAWS), "gamma")

    def __post_init__(self) -> None:
        if self.cv <= 1:
            raise BadInput(
                f"{self}: cv={self.cv:g} found, more than 1 wanted: thinning and cloning make arrivals "
                "burstier than Poisson's, never smoother"
            )

    def curve(self, over: Setting, rng: np.random.Generator) -> Curve:
        start_ns, end_ns = self.window(over)
        each_ns = max(1, resolve(self.each, over.span_ns))
        stretches = -(-(end_ns - start_ns) // each_ns)
        if stretches > MOST_STRETCHES:
            raise BadInput(
                f"{self}: {stretches} stretches found, at most {MOST_STRETCHES} wanted; raise each"
            )
        shape = solved_shape(self.law, self.cv, over.per_s * each_ns / 1e9, str(self))
        factors = _draw(self.law, shape, rng, stretches)
        borders = np.minimum(start_ns + each_ns * np.arange(stretches + 1, dtype=np.int64), end_ns)
        mean = float(np.average(factors, weights=np.diff(borders)))
        factors = np.minimum(factors / mean, HIGHEST) if mean > 0 else factors  # few draws may be off by much
        label = self.labelled(start_ns, end_ns)
        return Curve(borders, constant(factors), max(1.0, float(factors.max())), (label,))


def gap_cv(law: str, shape: float, arrivals_a_stretch: float) -> float:
    """The CV of gaps for a law of this shape, by the module's formula (in stretches as the unit of time)."""
    # φ changes most near 0, within the time of one arrival.
    s = np.concatenate([[0.0], np.geomspace(1e-4 / (1 + arrivals_a_stretch), 1.0, _GRID)])
    phi = _laplace(law, shape, arrivals_a_stretch * s)
    rest = float(np.trapezoid((1 - s) * phi, s))
    whole = float(np.trapezoid(phi, s))
    mean_wait = rest + whole**2 / max(1e-300, 1 - float(phi[-1]))
    return math.sqrt(max(0.0, 2 * arrivals_a_stretch * mean_wait - 1))


@functools.lru_cache(64)
def solved_shape(law: str, cv: float, arrivals_a_stretch: float, place: str) -> float:
    """The shape of the law that gives gaps this CV, by bisection; raises `BadInput` where none does."""
    from scipy.optimize import brentq

    def excess(log_shape: float) -> float:
        return gap_cv(law, math.exp(log_shape), arrivals_a_stretch) - cv

    low, high = math.log(_LEAST_SHAPE), math.log(_MOST_SHAPE if law == "gamma" else 30.0)
    if not (arrivals_a_stretch > 0 and excess(low) > 0 > excess(high)):
        most = gap_cv(law, _LEAST_SHAPE, arrivals_a_stretch) if arrivals_a_stretch > 0 else math.nan
        raise BadInput(
            f"{place}: cv={cv:g} found, up to {most:.3g} can be had with {arrivals_a_stretch:.3g} arrivals a "
            "stretch; raise each"
        )
    return math.exp(float(brentq(excess, low, high, xtol=1e-4)))


def _laplace(law: str, shape: float, u: Float64) -> Float64:
    """E exp(−uX) of the law with mean 1."""
    if law == "gamma":
        found: Float64 = (1 + u / shape) ** -shape
        return found
    # Gauss–Legendre over the quantiles p = v², dense towards 0, where φ is decided.
    v, weights = _nodes()
    quantiles = (-np.log1p(-(v**2))) ** (1 / shape) / math.gamma(1 + 1 / shape)
    mean: Float64 = np.exp(-np.outer(u, quantiles)) @ (weights * v)
    return mean


@functools.cache
def _nodes() -> tuple[Float64, Float64]:
    nodes, weights = np.polynomial.legendre.leggauss(_QUANTILES)
    return (nodes + 1) / 2, weights


def _draw(law: str, shape: float, rng: np.random.Generator, n: int) -> Float64:
    if law == "gamma":
        return rng.gamma(shape, 1 / shape, n)
    return rng.weibull(shape, n) / math.gamma(1 + 1 / shape)
