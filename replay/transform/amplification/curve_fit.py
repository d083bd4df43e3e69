"""Which shifts of clones give the burst curve of f times as many users: a mixture fitted to the spectrum.

Let S be the spectral density of the arrivals, C that of sessions by themselves, φ the characteristic function
of a clone's shift, and K the number of copies of a session, E K = f. Copy 0 stays, the others move, each by
itself. Then the amplified arrivals have, per request of the trace,

    (S − C) (1 + (f − 1) φ)² + C (f + 2 (f − 1) φ + E[(K − 1)(K − 2)] φ²),

and f times as many users under the same rate curve would have f² (S − C) + f C. With no shift (φ = 1) clones
tie: the second term is f² C, chance multiplied as if it were rate. With very long shifts (φ = 0) the rate
curve is smoothed away. In between φ has to be near 1 where the rate's variation stands out of chance, and
near 0 where it doesn't: what a Wiener filter is to a signal in noise. A mixture of triangular distributions
of many widths can follow that, since their φ are sinc², positive and falling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.shifts import Shifts
from replay.transform.amplification.spectrum import Spectrum

Float64 = npt.NDArray[np.float64]

_SHORTEST_S: Final = 1e-3
_SCALES: Final = 40
_LEAST_WEIGHT: Final = 0.005
_ROUNDS: Final = 80
RIDGE: Final = 1e-4
LONG_COSTS: Final = 20.0
"""How much more weight costs for shifts as long as the trace: the rate curve is smoothed where it pays."""
_SHRINK: Final = 0.1
"""Of James and Stein's constant, as a part. The bias is 0.33 standard deviations where there is nothing but
chance (0.4 with 0), and −0.05 at worst (−0.5 with 1)."""
_WEIGHINGS: Final = 4
CLOSE: Final = 0.2
"""A target this close (relative) is as good as met: chance in long windows weighs less than this in short."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """Shifts, and the burst curve they give by calculation against its target, float64[windows] each.

    `doubt` is the standard error of the target, which the trace's few arrivals estimate.
    """

    shifts: Shifts | ClockShifts | CrowdShifts
    windows_s: Float64
    expected: Float64
    target: Float64
    doubt: Float64

    def miss(self) -> float:
        """The largest relative distance to the target over windows of 0.1 to 60 s (all, where none is)."""
        return float(np.abs(self.expected / self.target - 1)[self._judged].max())

    def unsure(self) -> float:
        """The largest relative standard error of the target over these windows."""
        return float((self.doubt / self.target)[self._judged].max())

    def target_at(self, windows_s: Sequence[float]) -> Float64:
        """The target for other windows within those fitted, float64[windows]."""
        found: Float64 = np.exp(np.interp(np.log(windows_s), np.log(self.windows_s), np.log(self.target)))
        return found

    @property
    def _judged(self) -> npt.NDArray[np.bool_]:
        inside = (self.windows_s >= 0.099) & (self.windows_s <= 60.6)
        return inside if inside.any() else np.ones_like(inside)


def fit_shifts(spectrum: Spectrum, factor: float, most_ns: int) -> Fit:
    """The mixture of shifts up to ±`most_ns` that comes closest to the burst curve's target.

    `factor` is above 1. Weights are found by Gauss–Newton steps, each a non-negative least-squares problem.
    """
    scales_s, phis, dislike = candidates(spectrum, most_ns)
    model = CurveModel(spectrum, factor)
    weights = closest_weights(lambda w: model.error(phis @ w), lambda w: model.slope(phis, w), dislike)
    used = np.flatnonzero(weights)
    shifts = Shifts(
        tuple(round(float(scale) * 1e9) for scale in scales_s[used]), tuple(weights[used].tolist())
    )
    return Fit(shifts, spectrum.bands.windows_s, model.expected(phis @ weights), model.target, model.doubt)


def candidates(spectrum: Spectrum, most_ns: int) -> tuple[Float64, Float64, Float64]:
    """The scales in s that a mixture may have, float64[scales]; φ of each, float64[bands, scales]; and what
    a weight of each costs, float64[scales]."""
    scales_s = np.geomspace(min(_SHORTEST_S, most_ns / 1e9), most_ns / 1e9, _SCALES)
    phis = np.sinc(spectrum.bands.per_s[:, None] * scales_s / (2 * np.pi)) ** 2
    return scales_s, phis, RIDGE * (1 + scales_s / spectrum.span_s * LONG_COSTS)


def closest_weights(
    error_of: Callable[[Float64], Float64],
    slope_of: Callable[[Float64], Float64],
    dislike: Float64,
    start: Float64 | None = None,
) -> Float64:
    """The weights, 0 or more and of sum 1, of the least squared error; small ones are left out.

    `error_of` gives float64[windows], `slope_of` its change with each weight, float64[windows, weights];
    `dislike`, float64[weights], is what a weight costs; `start` the weights to begin with, else even ones.
    """
    weights = np.full(len(dislike), 1 / len(dislike)) if start is None else start.copy()
    error = error_of(weights)
    for _ in range(_ROUNDS):
        step = _wanted(slope_of(weights), error, weights, dislike) - weights
        length = 1.0
        while length > 1e-3:
            closer = error_of(weights + length * step)
            if closer @ closer <= error @ error:
                break
            length /= 2
        else:
            break
        weights, error = weights + length * step, closer
        if float(np.abs(length * step).max()) < 1e-5:
            break
    weights[weights < _LEAST_WEIGHT] = 0
    weights /= weights.sum()
    return weights


def clone_pairs(factor: float) -> float:
    """E[(K − 1)(K − 2)] for K copies, ⌊factor⌋ or one more, of mean `factor`."""
    whole = np.floor(factor)
    more = factor - whole
    return float((1 - more) * (whole - 1) * (whole - 2) + more * whole * (whole - 1))


def expected_fit(spectrum: Spectrum, factor: float, shifts: Shifts) -> Fit:
    """What given shifts make of the burst curve, to compare with the fitted ones."""
    phi = np.zeros(len(spectrum.bands.per_s))
    for scale_ns, weight in zip(shifts.scales_ns, shifts.weights, strict=True):
        angle = spectrum.bands.per_s * scale_ns / 1e9
        phi += weight * (np.sinc(angle / np.pi) if shifts.uniform else np.sinc(angle / (2 * np.pi)) ** 2)
    model = CurveModel(spectrum, factor)
    return Fit(shifts, spectrum.bands.windows_s, model.expected(phi), model.target, model.doubt)


class CurveModel:
    """The expected burst curve as a function of φ (float64[bands]), and its distance to the target."""

    def __init__(self, spectrum: Spectrum, factor: float) -> None:
        self._bands = spectrum.bands
        self._rate = spectrum.total - spectrum.own
        self._own = spectrum.own
        self._factor = factor
        self._clones = factor - 1
        self._pairs = clone_pairs(factor)
        own = self._bands.dispersion(self._own)
        windows = spectrum.span_s / self._bands.windows_s
        from_rate = self._bands.dispersion(self._rate)
        from_rate, chance = growing(from_rate, own, windows, spectrum.chance)
        self.target: Float64 = own + factor * shrunk_to_chance(from_rate, chance)
        self.doubt: Float64 = factor * chance
        self._weight = 1 / np.sqrt(1 + 2 / windows / CLOSE**2)

    def expected(self, phi: Float64) -> Float64:
        """The index of dispersion by window, float64[windows]."""
        rate = self._rate * (1 + self._clones * phi) ** 2
        own = self._own * (self._factor + 2 * self._clones * phi + self._pairs * phi**2)
        return self._bands.dispersion((rate + own) / self._factor)

    def error(self, phi: Float64) -> Float64:
        """The weighted relative distance to the target, float64[windows]."""
        return (self.expected(phi) / self.target - 1) * self._weight

    def slope(self, phis: Float64, weights: Float64) -> Float64:
        """How the error changes with each weight, float64[windows, scales]."""
        phi = phis @ weights
        change = 2 * self._clones * (1 + self._clones * phi) * self._rate
        change += (2 * self._clones + 2 * self._pairs * phi) * self._own
        slope = self._bands.dispersion(change[:, None] * phis / self._factor)
        slope *= (self._weight / self.target)[:, None]
        return slope


def growing(from_rate: Float64, own: Float64, windows: Float64, even: Float64) -> tuple[Float64, Float64]:
    """What the rate adds to the dispersion, float64[windows], and its standard deviation.

    It is never negative and grows with the window; what looks otherwise is taken for chance. `own` is what
    sessions bring, `windows` how many of each length there are, `even` the deviation were there no variation
    of the rate.
    """
    from scipy.optimize import isotonic_regression

    grown = np.zeros_like(from_rate)
    for _ in range(_WEIGHINGS):  # a window weighs by what it is thought to vary, not by what it happened to
        grown = isotonic_regression(from_rate, weights=windows / (own + grown) ** 2, increasing=True).x
        grown = np.maximum(grown, 0)
    return grown, even * (1 + grown / own)


def shrunk_to_chance(from_rate: Float64, chance: Float64) -> Float64:
    """What the rate's variation adds, 0 or more, with next to no bias where chance is as large.

    Cutting off what is below 0 makes too much of chance; so less is made of what is small beside it, as
    James and Stein do, by a constant that keeps the bias small all over.
    """
    known = np.maximum(from_rate, 1e-12)
    shrunk: Float64 = np.maximum(known - _SHRINK * chance**2 / known, 0)
    return shrunk


def _wanted(slope: Float64, error: Float64, weights: Float64, dislike: Float64) -> Float64:
    """The weights, 0 or more and of sum 1, that a linear model of the error and of their cost likes best."""
    from scipy.optimize import nnls

    scales = len(weights)
    rows = np.vstack([slope, np.full((1, scales), 100.0), np.diag(dislike)])
    goal = np.concatenate([slope @ weights - error, [100.0], np.zeros(scales)])
    found, _ = nnls(rows, goal)
    return found / found.sum() if found.sum() > 0 else weights
