"""How shifts depend on crowding, so that the largest counts are true, too: fitted to the third moment.

One law of shifts for all clones can reach the burst curve, a second moment, and yet smooth the few bursts
that make the peaks (a client that sends many requests at once, in traffic that is even), or keep together
what only chance had put together. So the mixture of `curve_fit` is tilted: where e^d times as many arrive as
usual, a shift of scale s weighs s^(−tilt · d) times as much. With a tilt above 0 clones stay nearer the more
crowded it is, below 0 they move farther. For each tilt the weights are fitted to the burst curve anew, which
is kept so; what comes out in trials is held against the third factorial cumulant that so many users have.

A session is of the class of the instant at which it begins: it moves as a whole. Let S_ij be the density of
the arrivals of classes i and j together, C_i what sessions of class i bring by themselves (their share of the
arrivals, where each request is a session), and φ_i the characteristic function of their shifts. Then the
amplified arrivals have, per request of the trace,

    Σ_ij (S_ij − δ_ij C_i) (1 + (f − 1) φ_i) (1 + (f − 1) φ_j)
        + Σ_i C_i (f + 2 (f − 1) φ_i + E[(K − 1)(K − 2)] φ_i²),

which is what `curve_fit` has, in one class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.crowding import NEAR_WINDOWS_S, Crowding
from replay.transform.amplification.curve_fit import CurveModel, Fit, candidates, closest_weights
from replay.transform.amplification.shifts import Shifts
from replay.transform.amplification.spectrum import Spectrum, cross_densities, own_densities
from replay.transform.amplification.third_moment import judged_windows, third_moment
from replay.transform.rows import Rows

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

TILTS: Final = (0.07, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.1)
"""Tried one after the other, on the side that is wanted."""
GAIN: Final = 2.0
"""A tilt must bring the squared distance, in standard errors, down by so much: Akaike's price of a parameter
(H. Akaike: A new look at the statistical model identification. IEEE Trans. Automatic Control 19, 1974)."""
_PAST: Final = 1.0
_LOOSER: Final = 1.5
_LOOSE: Final = 0.01
_MOST_EXPONENT: Final = 60.0

type Trials = Callable[[Shifts | ClockShifts | CrowdShifts], Sequence[Int64]]
"""The instants, int64[n] ns in any order, of each of some trial amplifications with given shifts."""


@dataclasses.dataclass(frozen=True)
class CrowdFit(Fit):
    """A fit with a tilt: `away` is how many standard errors the third moment is off, root mean square over
    the windows, and `away_before` how many it was without."""

    away: float
    away_before: float


def fit_crowds(
    spectrum: Spectrum, rows: Rows, span_ns: int, factor: float, most_ns: int, fit: Fit, trials: Trials
) -> CrowdFit | None:
    """The tilted mixture that comes closest to the third moment, or None where none does by more than chance.

    `rows`, in any order, are what `spectrum` and `fit`, the fit without a tilt, are of; `factor` is above 1.
    """
    windows_s = judged_windows(NEAR_WINDOWS_S, span_ns, spectrum.bin_ns)
    if not windows_s:
        return None
    alone = bool((spectrum.own == 1).all())
    target = third_moment(rows.due_ns, span_ns, windows_s, None if alone else rows.session, factor)

    def away(shifts: Shifts | ClockShifts | CrowdShifts) -> Float64:
        found = [third_moment(one_ns, span_ns, windows_s).cumulant for one_ns in trials(shifts)]
        return target.away(np.mean(found, axis=0))

    before = away(fit.shifts)
    if float(before @ before) <= GAIN:
        return None
    starts_ns = rows.start_ns if alone else rows.start_ns[np.unique(rows.session, return_index=True)[1]]
    crowding = Crowding.among(starts_ns, spectrum.bin_ns, spectrum.bins, windows_s)
    if crowding is None:
        return None
    model = _TiltedModel(spectrum, factor, crowding, rows, most_ns)
    found = _closest(model, -1.0 if before.sum() > 0 else 1.0, float(before @ before), away)
    if found is None:
        return None
    tilt, weights, squared = found
    expected = model.expected_with(tilt, weights)
    size = len(before)
    return CrowdFit(
        model.shifts(tilt, weights),
        spectrum.bands.windows_s,
        expected,
        model.target,
        model.doubt,
        float(np.sqrt(squared / size)),
        float(np.sqrt(before @ before / size)),
    )


def _closest(
    model: _TiltedModel, side: float, before: float, away: Callable[[CrowdShifts], Float64]
) -> tuple[float, Float64, float] | None:
    """The tilt on the wanted side, its weights, and the squared distance; None where it gains too little.

    Each fit begins at the last one's weights, so that little changes but what the tilt demands.
    """
    weights = model.fitted(0.0)
    loosest = max(_LOOSER * model.off(0.0, weights), model.off(0.0, weights) + _LOOSE)
    best, least = None, before
    for tilt in TILTS:
        try:
            weights = model.fitted(side * tilt, weights)
        except RuntimeError:  # scipy's non-negative least squares gave up: too far to one side
            break
        if model.off(side * tilt, weights) > loosest:
            break
        distance = away(model.shifts(side * tilt, weights))
        squared = float(distance @ distance)
        if squared < least:
            best, least = (side * tilt, weights, squared), squared
        elif squared > least + _PAST:
            break
    return best if before - least > GAIN else None


class _TiltedModel(CurveModel):
    """The expected burst curve as a function of the classes' φ (float64[bands, classes])."""

    def __init__(
        self, spectrum: Spectrum, factor: float, crowding: Crowding, rows: Rows, most_ns: int
    ) -> None:
        super().__init__(spectrum, factor)
        self._crowding = crowding
        self._scales_s, self._phis, self._dislike = candidates(spectrum, most_ns)
        classes = len(crowding.density)
        of_class = crowding.of(rows.start_ns)
        self._shares = np.bincount(of_class, minlength=classes) / len(rows)
        place = rows.due_ns // spectrum.bin_ns
        if (spectrum.own == 1).all():
            self._owns = np.tile(self._shares, (len(spectrum.own), 1))
        else:
            self._owns = own_densities(place, rows.session, of_class, classes, spectrum)
        self._cross = cross_densities(place, of_class, classes, spectrum.bins)
        each = np.arange(classes)
        self._cross[:, each, each] -= self._owns

    def fitted(self, tilt: float, start: Float64 | None = None) -> Float64:
        """The weights for a tilt before it is laid on, float64[scales]. Raises what scipy's `nnls` raises."""

        def error_of(weights: Float64) -> Float64:
            return self.error(self._phi(tilt, weights))

        return closest_weights(error_of, lambda one: self._slope(tilt, one), self._dislike, start)

    def off(self, tilt: float, weights: Float64) -> float:
        """The distance to the burst curve's target, root mean square over the windows."""
        return float(np.sqrt(np.mean(self.error(self._phi(tilt, weights)) ** 2)))

    def expected_with(self, tilt: float, weights: Float64) -> Float64:
        """The index of dispersion by window, float64[windows]."""
        return self.expected(self._phi(tilt, weights))

    def shifts(self, tilt: float, weights: Float64) -> CrowdShifts:
        """The mixture of each class."""
        used = np.flatnonzero(weights)
        scales_ns = tuple(round(float(scale) * 1e9) for scale in self._scales_s[used])
        return CrowdShifts(
            self._crowding, scales_ns, self._tilted(tilt, weights)[:, used], self._shares, tilt
        )

    def expected(self, phi: Float64) -> Float64:
        """The index of dispersion by window, float64[windows] (formula in the module's docstring)."""
        rate = np.einsum("bi,bij,bj->b", 1 + self._clones * phi, self._cross, 1 + self._clones * phi)
        own = ((self._factor + 2 * self._clones * phi + self._pairs * phi**2) * self._owns).sum(axis=1)
        return self._bands.dispersion((rate + own) / self._factor)

    def _tilt(self, tilt: float) -> Float64:
        """How many times as much each scale weighs in each class, float64[classes, scales]."""
        size = np.log(self._scales_s)
        exponent = -tilt * np.outer(self._crowding.density, size - size.mean())
        tilted: Float64 = np.exp(np.clip(exponent, -_MOST_EXPONENT, _MOST_EXPONENT))
        return tilted

    def _tilted(self, tilt: float, weights: Float64) -> Float64:
        """The weights of each class, float64[classes, scales]."""
        tilted = self._tilt(tilt) * weights
        return tilted / tilted.sum(axis=1, keepdims=True)

    def _phi(self, tilt: float, weights: Float64) -> Float64:
        return self._phis @ self._tilted(tilt, weights).T

    def _slope(self, tilt: float, weights: Float64) -> Float64:
        """How the error changes with each weight before the tilt, float64[windows, scales]."""
        phi = self._phi(tilt, weights)
        by_phi = 2 * self._clones * np.einsum("bij,bj->bi", self._cross, 1 + self._clones * phi)
        by_phi += (2 * self._clones + 2 * self._pairs * phi) * self._owns
        laid = self._tilt(tilt)
        laid /= (laid @ weights)[:, None]
        # ∂φ_i/∂w_s = laid_is (φ_s − φ_i), since each class's weights sum to 1.
        change = (by_phi @ laid) * self._phis - (by_phi * phi) @ laid
        slope = self._bands.dispersion(change / self._factor)
        slope *= (self._weight / self.target)[:, None]
        return slope
