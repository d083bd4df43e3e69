"""The spectrum of arrivals: how much of their variance lies at which frequency, and how much sessions make.

Arrivals are counted in fine bins, in one pass over a trace of any length, and turned into a cosine spectrum:
the cosines are those of a rate that is mirrored at both ends of the trace, as clones are that would leave it.
A spectral density of 1 is that of Poisson arrivals. From a density, `Bands.dispersion` gives the index of
dispersion by window (D. R. Cox, P. A. W. Lewis: The Statistical Analysis of Series of Events, 1966, ch. 4–5).
Which clones go where is not decided here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.clock import Clock, find_clock
from replay.transform.draws import uniform

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

_FINEST_BIN_NS: Final = 1_000_000
_USUAL_BIN_NS: Final = 10_000_000
_USUAL_BINS: Final = 1 << 19
_MOST_BINS: Final = 1 << 21
_FEWEST_BINS: Final = 1 << 12
_LOOKED_AT: Final = 1 << 10
_BINS_PER_ARRIVAL: Final = 1024
_MOST_SAMPLED: Final = 1 << 20
_SIGNS: Final = 2
_SIGNS_FOR_SLOW: Final = 32
_SIGNS_BY_CLASS: Final = 1
_SIGNS_BY_CLASS_FOR_SLOW: Final = 4
_COARSER: Final = 16
_SINGLE_FREQUENCIES: Final = 16
_BANDS_PER_OCTAVE: Final = 4
_WINDOWS: Final = 28
_WINDOWS_TO: Final = 10
_SAMPLE_KEY: Final = np.uint64(0xA0761D6478BD642F)
_SIGN_KEY: Final = np.uint64(0xE7037ED1A0B428DB)


class Bands(NamedTuple):
    """Frequencies in bands, narrow at low frequencies, and what each adds to the dispersion of a window.

    `per_s` float64[bands], rad/s; `frequencies` int64[bands], how many each band has; `windows_s`
    float64[windows], ascending; `transfer` float64[windows, bands]; `beyond` float64[windows], the part above
    the highest frequency that the bins resolve.
    """

    per_s: Float64
    frequencies: Int64
    windows_s: Float64
    transfer: Float64
    beyond: Float64

    def dispersion(self, density: Float64) -> Float64:
        """IDC(w) of arrivals with this spectral density (float64[bands, …]), float64[windows, …].

        IDC(w) = (w/π) ∫ S(ω) sinc²(ωw/2) dω; above the bins' resolution, the density of the last octave.
        """
        found: Float64 = self.transfer @ density
        found += np.multiply.outer(self.beyond, density[-_BANDS_PER_OCTAVE:].mean(axis=0))
        return found


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """What was measured: the density of all arrivals and that of sessions by themselves, float64[bands].

    `total` − `own` is what the rate's variation adds (it may be negative by chance); `own` is 1 where every
    session has one request. `chance`, float64[windows], is the standard deviation that the dispersion of
    `total` − `own` would have, were there no such variation. `arrivals` and `span_s` say how much there was
    to measure, counted in `bins` of `bin_ns`. Where there is a `clock`, `beside` is what it leaves of
    `total`.
    """

    bands: Bands
    total: Float64
    own: Float64
    chance: Float64
    arrivals: int
    span_s: float
    bin_ns: int
    bins: int
    clock: Clock | None = None
    beside: Float64 | None = None


class ArrivalCounts:
    """Counts arrivals of one trace, batch by batch and in any order, in bounded memory."""

    def __init__(self, span_ns: int, expected: int, tick_ns: int = 1) -> None:
        """`span_ns`: no arrival lies beyond; `expected`: about how many; `tick_ns`: the clock's step."""
        self._span_ns = max(span_ns, 1)
        self._bin_ns, bins = _bins(self._span_ns, expected, tick_ns)
        self._counts = np.zeros(bins, np.int64)
        self._share = min(1.0, _MOST_SAMPLED / max(expected, 1))
        self._sampled: list[tuple[Int64, Int64]] = []
        self._step_ns = 0
        self.arrivals = 0

    def add(self, due_ns: Int64, session: Int64 | None) -> None:
        """Count a batch: `due_ns` int64[n], 0 to the span, and `session` int64[n], a number per session; None
        where each has one request."""
        if not len(due_ns):
            return
        self.arrivals += len(due_ns)
        self._step_ns = int(np.gcd.reduce(due_ns[:_LOOKED_AT], initial=self._step_ns))
        if session is None and self._counted_by_borders(due_ns):
            return
        place = due_ns // self._bin_ns
        low = int(place.min())
        counts = np.bincount(place - low)
        self._counts[low : low + len(counts)] += counts
        if session is None:
            return
        if self._share < 1:
            kept = uniform(_SAMPLE_KEY, session, 0) < self._share
            place, session = place[kept], session[kept]
        self._sampled.append((place, session))

    def _counted_by_borders(self, due_ns: Int64) -> bool:
        """Count ascending instants, many to a bin, by finding the bins' borders; False where they aren't."""
        low, high = int(due_ns[0]) // self._bin_ns, int(due_ns[-1]) // self._bin_ns
        if not 0 <= high - low < len(due_ns) // 4 or not (due_ns[1:] >= due_ns[:-1]).all():
            return False
        ends = np.searchsorted(due_ns, np.arange(low + 1, high + 2) * self._bin_ns)
        self._counts[low : high + 1] += np.diff(ends, prepend=0)
        return True

    def spectrum(self) -> Spectrum:
        """The spectrum of what was counted: at least one arrival; some hundred bins, to mean anything."""
        bins = len(self._counts)
        edges = _band_edges(bins)
        rad_per_s: Float64 = np.pi * np.arange(bins, dtype=np.float64) / (bins * self._bin_ns / 1e9)
        span_s = bins * self._bin_ns / 1e9
        bands = _bands(rad_per_s, edges, self._bin_ns / 1e9, span_s)
        counts = self._counts.astype(np.float64)
        total = _banded(_power(counts), edges) / self.arrivals
        own, uneven = self._own(edges, bands)
        clock, beside = find_clock(self._counts, self._bin_ns, max(self._step_ns, 1)), None
        if clock is not None:
            beside = _banded(_power(clock.without(counts, self._bin_ns)), edges) / self.arrivals
            if (own != 1).any():
                around = np.interp(clock.per_s, bands.per_s, own)
                clock = clock.by_sessions(*self._sample(), self._bin_ns, around)
        chance = uneven * _chance(bands, own)
        return Spectrum(bands, total, own, chance, self.arrivals, span_s, self._bin_ns, bins, clock, beside)

    def _sample(self) -> tuple[Int64, Int64]:
        """Bin and session of each request sampled, int64[n] each."""
        places, sessions = zip(*self._sampled, strict=True)
        return np.concatenate(places), np.concatenate(sessions)

    def _own(self, edges: Int64, bands: Bands) -> tuple[Float64, Float64]:
        """The density of sessions by themselves, of a sample of them, and its unevenness: `_own_density`."""
        if not self._sampled:
            return np.ones(len(edges) - 1), np.ones(len(bands.windows_s))
        place, session = self._sample()
        ordered = np.sort(session)
        if not len(session) or not (ordered[1:] == ordered[:-1]).any():
            return np.ones(len(edges) - 1), np.ones(len(bands.windows_s))
        return _own_density(place, session, len(self._counts), edges, bands, _SIGNS, _SIGNS_FOR_SLOW)


def cross_densities(place: Int64, of_class: npt.NDArray[np.int8], classes: int, bins: int) -> Float64:
    """The density of arrivals of each class with those of each other, float64[bands, classes, classes].

    `place` int64[n] and `of_class` int8[n] are the bin and the class of each arrival. All classes together
    have the density of all arrivals.
    """
    from scipy import fft

    edges = _band_edges(bins)
    amplitudes = []
    for one in range(classes):
        counts = np.bincount(place[of_class == one], minlength=bins).astype(np.float64)
        amplitudes.append(fft.dct(counts, type=2, overwrite_x=True))
    density = np.empty((len(edges) - 1, classes, classes))
    for one, first in enumerate(amplitudes):
        for other, second in enumerate(amplitudes[: one + 1]):
            density[:, one, other] = density[:, other, one] = _banded(first * second / 2, edges) / len(place)
    return density


def own_densities(
    place: Int64, session: Int64, of_class: npt.NDArray[np.int8], classes: int, spectrum: Spectrum
) -> Float64:
    """What sessions of each class bring by themselves, float64[bands, classes]; all together, `spectrum.own`.

    `place` int64[n], `session` int64[n] and `of_class` int8[n] are each arrival's; a session is of one class.
    """
    edges = _band_edges(spectrum.bins)
    density = np.empty((len(edges) - 1, classes))
    for one in range(classes):
        mine = of_class == one
        density[:, one], _ = _own_density(
            place[mine],
            session[mine],
            spectrum.bins,
            edges,
            spectrum.bands,
            _SIGNS_BY_CLASS,
            _SIGNS_BY_CLASS_FOR_SLOW,
        )
        density[:, one] *= mine.mean()
    density *= (spectrum.own / density.sum(axis=1))[:, None]
    return density


def measured(due_ns: Int64, session: Int64, span_ns: int) -> Spectrum:
    """The spectrum of arrivals held in memory: `due_ns` int64[n] from 0 to `span_ns`, `session` int64[n]."""
    counts = ArrivalCounts(span_ns, len(due_ns))
    counts.add(due_ns, session)
    return counts.spectrum()


def _own_density(
    place: Int64, session: Int64, bins: int, edges: Int64, bands: Bands, signs: int, for_slow: int
) -> tuple[Float64, Float64]:
    """The density of sessions by themselves, float64[bands]; and how much more it varies with the signs than
    one of even arrivals would, as a factor by window (few heavy sessions do that).

    With a random sign for each session, what different sessions have in common cancels out on average,
    and what a session's requests have in common stays. Few frequencies want many signs, but not all bins.
    """
    density = _signed_densities(place, session, bins, edges, range(signs)).mean(axis=1)
    slow = edges <= bins // _COARSER // 2
    slow[: _SINGLE_FREQUENCIES // 2] = True
    coarse_edges = edges[slow]
    uneven = np.ones(len(bands.windows_s))
    if len(coarse_edges) > 1 and bins // _COARSER > coarse_edges[-1]:
        others = range(signs, signs + for_slow)
        coarse = _signed_densities(place // _COARSER, session, bins // _COARSER, coarse_edges, others)
        density[: len(coarse)] = coarse.mean(axis=1)
        uneven = _unevenness(coarse, bands)
    return _smoothed(density, bands), uneven


def _signed_densities(place: Int64, session: Int64, bins: int, edges: Int64, signs: Iterable[int]) -> Float64:
    """The density of counts with a random sign per session, float64[bands, signs]."""
    densities = []
    for nth in signs:
        sign = np.where(uniform(_SIGN_KEY, session, nth) < 0.5, 1.0, -1.0)
        signed = np.bincount(place, weights=sign, minlength=bins)
        densities.append(_banded(_power(signed), edges) / len(session))
    return np.stack(densities, axis=1)


def _unevenness(densities: Float64, bands: Bands) -> Float64:
    """How much more the dispersion varies with the signs than that of even arrivals, a factor by window.

    `densities` float64[slow bands, signs]. Where few heavy sessions meet, they do so in few places.
    """
    slow = len(densities)
    transfer = bands.transfer[:, :slow]
    found = (transfer @ densities).std(axis=1, ddof=1)
    even = densities.mean(axis=1) * np.sqrt(2 / bands.frequencies[:slow])
    uneven: Float64 = np.maximum(found / np.sqrt(transfer**2 @ even**2), 1.0)
    return uneven


def _chance(bands: Bands, own: Float64) -> Float64:
    """The standard deviation of the dispersion of even arrivals with density `own`, float64[windows].

    A spectral estimate from n cosines has a relative variance of 2/n (Cox & Lewis 1966, ch. 5).
    """
    chance: Float64 = np.sqrt(bands.transfer**2 @ (own**2 * 2 / bands.frequencies))
    return chance


def _bins(span_ns: int, expected: int, tick_ns: int) -> tuple[int, int]:
    """A bin's width in ns and how many bins cover the span, a number that is fast to transform."""
    usual_ns = min(span_ns // _USUAL_BINS, _USUAL_BIN_NS)
    most = min(_MOST_BINS, max(_FEWEST_BINS, _BINS_PER_ARRIVAL * expected))
    wanted_ns = max(_FINEST_BIN_NS, usual_ns, span_ns // most, tick_ns)
    bins = _COARSER * fast_length(span_ns // wanted_ns // _COARSER + 1)
    return -(-(span_ns + 1) // bins), bins


def fast_length(least: int) -> int:
    """The smallest 2^a·3^b·5^c from `least` (1 or more) on: a length that is fast to transform, as
    `scipy.fft.next_fast_len(least, real=True)` says, for which scipy needn't be there yet."""
    best, fives = 1 << (least - 1).bit_length(), 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-least // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best


def _power(counts: Float64) -> Float64:
    """2·|Σ counts·cos|² per frequency π·j/span, float64[bins]: n on average for n Poisson arrivals."""
    from scipy import fft  # not needed to import the steps

    amplitude = fft.dct(counts, type=2) / 2
    power: Float64 = 2 * amplitude * amplitude
    return power


def _band_edges(bins: int) -> Int64:
    """Indices of frequencies where bands begin, and the end; index 0, the mean, belongs to none."""
    edges = list(range(1, min(_SINGLE_FREQUENCIES, bins - 1) + 1)) or [1]
    while edges[-1] < bins:
        edges.append(min(bins, max(edges[-1] + 1, int(edges[-1] * 2 ** (1 / _BANDS_PER_OCTAVE)))))
    return np.array(edges, np.int64)


def _banded(values: Float64, edges: Int64) -> Float64:
    """The mean of `values` over each band's frequencies, float64[bands]."""
    mean: Float64 = np.add.reduceat(values[1 : int(edges[-1])], edges[:-1] - 1) / np.diff(edges)
    return mean


def _bands(rad_per_s: Float64, edges: Int64, bin_s: float, span_s: float) -> Bands:
    frequencies = np.diff(edges)
    shortest_s = max(0.01, 4 * bin_s)
    windows_s = np.geomspace(shortest_s, max(span_s / _WINDOWS_TO, 2 * shortest_s), _WINDOWS)
    step = rad_per_s[1]
    transfer = np.empty((len(windows_s), len(frequencies)))
    for band, (start, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        inside = rad_per_s[start:end]
        if len(inside) > 256:
            inside = np.linspace(inside[0], inside[-1], 256)
        shape = np.sinc(inside * windows_s[:, None] / (2 * np.pi)) ** 2
        transfer[:, band] = shape.mean(axis=1) * (end - start) * step * windows_s / np.pi
    # All of a white spectrum is 1; half a step around frequency 0 is the mean's, not the variance's.
    beyond = np.clip(1 - transfer.sum(axis=1) - step * windows_s / (2 * np.pi), 0, None)
    centre = np.exp(_banded(np.log(np.maximum(rad_per_s, 1e-300)), edges))
    return Bands(centre, frequencies, windows_s, transfer, beyond)


def _smoothed(density: Float64, bands: Bands) -> Float64:
    """The density; where a band has few frequencies, a local line through its neighbours (log frequency)."""
    at = np.log(bands.per_s)
    smooth = density.copy()
    for band in np.flatnonzero(bands.frequencies < 200):
        away = at - at[band]
        weight = np.exp(-0.5 * (away / 0.25) ** 2) * bands.frequencies
        sums = [float((weight * away**power).sum()) for power in range(3)]
        zeroth, first = float((weight * density).sum()), float((weight * away * density).sum())
        spread = sums[0] * sums[2] - sums[1] ** 2
        level = (sums[2] * zeroth - sums[1] * first) / spread if spread > 1e-12 else zeroth / sums[0]
        smooth[band] = max(level, 0.5)
    return smooth
