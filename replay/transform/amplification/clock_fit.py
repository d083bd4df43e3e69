"""Which shifts keep a clock: by whole periods, and a little, as `curve_fit` fits shifts without one.

Of f times as many users with the same cron lines, the batches are on the same instants, and are of f times
the size. So clones are moved by whole periods: a shift by k periods has the characteristic function 1 at the
clock's lines, where the rate's variation is, and next to 0 between them, where there is only chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.clock import Clock
from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.curve_fit import (
    CLOSE,
    LONG_COSTS,
    RIDGE,
    Fit,
    clone_pairs,
    closest_weights,
    growing,
    shrunk_to_chance,
)
from replay.transform.amplification.spectrum import Bands, Spectrum

Float64 = npt.NDArray[np.float64]

_MOST_CYCLES: Final = 128
_SHORTEST_S: Final = 1e-3
_NEAR_SCALES: Final = 24
_LITTLE_SCALES: Final = 8
_LITTLE: Final = 0.1
"""The little besides whole periods is up to this part of a batch's width: clones of a batch stay one."""
_SAMPLED: Final = 256
_MATTERS: Final = 0.05
"""A clock that adds less than this part to the target in every window is left alone."""


@dataclasses.dataclass(frozen=True)
class ClockFit(Fit):
    """A fit whose target goes up and down with the window: a clock adds nothing in whole periods."""

    clock: Clock
    factor: float
    span_s: float

    def target_at(self, windows_s: Sequence[float]) -> Float64:
        """The target for other windows within those fitted, float64[windows]."""
        others = self.target - self._by_clock(self.windows_s)
        beside = np.exp(np.interp(np.log(windows_s), np.log(self.windows_s), np.log(others)))
        found: Float64 = beside + self._by_clock(np.asarray(windows_s, np.float64))
        return found

    def _by_clock(self, windows_s: Float64) -> Float64:
        return self.factor * from_clock(self.clock, windows_s, self.span_s)


def from_clock(clock: Clock, windows_s: Float64, span_s: float) -> Float64:
    """What the clock adds to the index of dispersion, float64[windows], 0 or more."""
    found: Float64 = np.maximum(clock.dispersion(windows_s, span_s) @ clock.excess, 0)
    return found


def fit_clock(spectrum: Spectrum, factor: float, most_ns: int) -> Fit | None:
    """The mixture of shifts up to ±`most_ns` that comes closest to the burst curve's target.

    `factor` is above 1. None where there is no clock, where it doesn't matter, or where its period is too
    long to move clones by.
    """
    clock = spectrum.clock
    if clock is None or not within_reach(clock, most_ns):
        return None
    shifts = _candidates(clock, most_ns)
    model = _Model(spectrum, clock, factor, shifts)
    if not model.matters:
        return None
    reach_s = np.array([(many - 1) * clock.period_ns + scale for many, scale in shifts]) / 1e9
    dislike = RIDGE * (1 + reach_s / spectrum.span_s * LONG_COSTS)
    weights = closest_weights(model.error, model.slope, dislike)
    used = np.flatnonzero(weights)
    mixture = ClockShifts(
        clock.period_ns,
        tuple(shifts[one][0] for one in used),
        tuple(shifts[one][1] for one in used),
        tuple(weights[used].tolist()),
    )
    curves = spectrum.bands.windows_s, model.expected(weights), model.target, model.doubt
    return ClockFit(mixture, *curves, clock, factor, spectrum.span_s)


def within_reach(clock: Clock, most_ns: int) -> int:
    """By how many of its periods clones can be moved, 128 at most."""
    return min(max(most_ns - _most_little_ns(clock), 0) // clock.period_ns, _MOST_CYCLES - 1)


def _most_little_ns(clock: Clock) -> int:
    return round(max(_LITTLE * clock.width_ns, 2 * _SHORTEST_S * 1e9))


def _candidates(clock: Clock, most_ns: int) -> list[tuple[int, int]]:
    """Numbers of cycles and scales in ns that a mixture may have: none at all, or some periods and little."""
    near_s = np.geomspace(min(_SHORTEST_S, most_ns / 1e9), most_ns / 1e9, _NEAR_SCALES)
    shifts = [(1, round(float(scale) * 1e9)) for scale in near_s]
    most = within_reach(clock, most_ns) + 1
    numbers = sorted({most, *(1 << power for power in range(1, 8) if 1 << power < most)})
    little_ns = np.geomspace(_SHORTEST_S * 1e9, _most_little_ns(clock), _LITTLE_SCALES)
    shifts += [(many, round(float(scale))) for many in numbers for scale in little_ns]
    return shifts


class _Model:
    """The expected burst curve as a function of the weights (float64[shifts]), and how far it is off.

    As in `curve_fit`, with the mean of φ over each band's frequencies and the mean of its products, since φ
    of whole periods goes up and down within a band; and with the clock's lines, each by itself.
    """

    def __init__(
        self, spectrum: Spectrum, clock: Clock, factor: float, shifts: list[tuple[int, int]]
    ) -> None:
        self._bands = spectrum.bands
        beside = spectrum.total if spectrum.beside is None else spectrum.beside
        self._rate = beside - spectrum.own
        self._own = spectrum.own
        self._factor = factor
        self._clones = factor - 1
        self._pairs = clone_pairs(factor)
        windows_s = self._bands.windows_s
        own = self._bands.dispersion(self._own)
        windows = spectrum.span_s / windows_s
        from_rate, chance = growing(self._bands.dispersion(self._rate), own, windows, spectrum.chance)
        self._lines = clock.dispersion(windows_s, spectrum.span_s) * clock.excess
        by_clock = from_clock(clock, windows_s, spectrum.span_s)
        from_rate = shrunk_to_chance(from_rate, chance)
        shared = (
            float(clock.excess.sum()) > float(clock.own.sum()) / 2
        )  # of two clients in step as much as of one
        self.matters = shared and bool((factor * by_clock > _MATTERS * (own + factor * from_rate)).any())
        self.target: Float64 = own + factor * (from_rate + by_clock)
        self.doubt: Float64 = factor * chance
        self._weight = 1 / np.sqrt(1 + 2 / windows / CLOSE**2)
        if self.matters:
            self._mean, self._product = _averages(self._bands, spectrum.span_s, clock.period_ns, shifts)
            self._at_lines = _characteristic(clock.per_s, clock.period_ns, shifts)

    def expected(self, weights: Float64) -> Float64:
        """The index of dispersion by window, float64[windows]."""
        once = 2 * self._clones * (self._mean @ weights)
        twice = (self._product @ weights) @ weights
        rate = self._rate * (1 + once + self._clones**2 * twice)
        own = self._own * (self._factor + once + self._pairs * twice)
        lines = self._lines @ (1 + self._clones * (self._at_lines @ weights)) ** 2
        found: Float64 = self._bands.dispersion((rate + own) / self._factor) + lines / self._factor
        return found

    def error(self, weights: Float64) -> Float64:
        """The weighted relative distance to the target, float64[windows]."""
        return (self.expected(weights) / self.target - 1) * self._weight

    def slope(self, weights: Float64) -> Float64:
        """How the error changes with each weight, float64[windows, shifts]."""
        twice = self._product @ weights
        change = 2 * self._clones * (self._rate + self._own)[:, None] * self._mean
        change += 2 * (self._clones**2 * self._rate + self._pairs * self._own)[:, None] * twice
        slope = self._bands.dispersion(change / self._factor)
        at = 2 * self._clones * (1 + self._clones * (self._at_lines @ weights)) / self._factor
        slope += (self._lines * at) @ self._at_lines
        slope *= (self._weight / self.target)[:, None]
        return slope


def _averages(
    bands: Bands, span_s: float, period_ns: int, shifts: list[tuple[int, int]]
) -> tuple[Float64, Float64]:
    """The mean of each φ over a band's frequencies, float64[bands, shifts], and of each two's product."""
    mean = np.empty((len(bands.per_s), len(shifts)))
    product = np.empty((len(bands.per_s), len(shifts), len(shifts)))
    end = 1 + np.cumsum(bands.frequencies)
    for band, (last, many) in enumerate(zip(end.tolist(), bands.frequencies.tolist(), strict=True)):
        nth = np.linspace(last - many, last - 1, min(many, _SAMPLED))
        phi = _characteristic(np.pi / span_s * nth, period_ns, shifts)
        mean[band] = phi.mean(axis=0)
        product[band] = phi.T @ phi / len(phi)
    return mean, product


def _characteristic(per_s: Float64, period_ns: int, shifts: list[tuple[int, int]]) -> Float64:
    """φ of each shift at each frequency (rad/s), float64[frequencies, shifts]: Fejér's kernel times sinc²."""
    half = per_s * (period_ns / 2e9)
    single = np.sin(half)
    phi = np.empty((len(per_s), len(shifts)))
    for place, (many, scale_ns) in enumerate(shifts):
        phi[:, place] = np.sinc(per_s * (scale_ns / 2e9) / np.pi) ** 2
        if many > 1:
            flat = np.abs(single) < 1e-9
            kernel = np.sin(many * half) / np.where(flat, 1.0, many * single)
            phi[:, place] *= np.where(flat, 1.0, kernel**2)
    return phi
