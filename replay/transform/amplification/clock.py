"""Is there a clock in the arrivals? Batches on the minute, cron lines, schedulers: found and measured. Pure.

A clock of period P makes lines in the spectrum at the multiples of 1/P. Each is held against the spectrum
around it, which chance, a wandering rate, and bursts fill evenly, and all together against what chance would
make of them: the H-test of O. C. de Jager, B. C. Raubenheimer, J. W. H. Swanepoel: A powerful test for weak
periodic signals with unknown light curve shape in sparse data. Astronomy & Astrophysics 221 (1989).
What clones do about a clock is in `clock_fit`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.transform.draws import uniform

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

FEWEST_CYCLES: Final = 10
"""A clock is seen at least so often; otherwise it is a rate curve that happened to come back."""
SHORTEST_PERIOD_NS: Final = 1_000_000_000
SURE: Final = 80.0
"""The H statistic a clock needs: e^(−0.4 H) = 10⁻¹⁴ for one period tried, and millions are."""
SURE_OF_LONGER: Final = 40.0
"""The same for a longer period, of which the one found would be a part: only a few are tried."""
MOST_HARMONICS: Final = 64
_COARSE_BIN_NS: Final = 20_000_000
_MOST_BINS: Final = 1 << 18
_FEWEST_BINS_PER_PERIOD: Final = 16
_PEAKS: Final = 24
_HIGHEST_PEAK_PER_NS: Final = 2e-9
"""Clocks are looked for by their lines up to 2 Hz."""
_SHARPER: Final = 0.3
_PLACES: Final = 400
_SINGLE: Final = 64
_REACH: Final = (16, 512)
_NEIGHBOURS: Final = 129
_QUANTILE: Final = 0.4
_MOST_PARTS: Final = 1 << 14
_PRIMES: Final = (2, 3, 5, 7)
_ROUND_NS: Final = (3_600_000_000_000, 60_000_000_000, 1_000_000_000, 100_000_000, 1_000_000)
_FINE_TICK: Final = 1e-4
_SIGNS: Final = 8
_SIGN_KEY: Final = np.uint64(0x94D049BB133111EB)


@dataclasses.dataclass(frozen=True)
class Clock:
    """A period, and how much each of its harmonics has beyond the spectrum around it.

    `lines` complex128[harmonics]: Σ exp(−2πi m t/P) over the arrivals at t, of which `around` float64
    (per arrival, as a spectral density) is what the spectrum around has, and `own` float64 what sessions
    that keep to the clock have by themselves beyond it. A period was cut into `parts`. `surely` is the H
    statistic.
    """

    period_ns: int
    lines: Complex128
    around: Float64
    own: Float64
    parts: int
    arrivals: int
    surely: float

    @property
    def per_s(self) -> Float64:
        """The harmonics' frequencies, float64[harmonics], rad/s."""
        found: Float64 = np.arange(1, len(self.lines) + 1, dtype=np.float64) * (2e9 * np.pi / self.period_ns)
        return found

    @property
    def excess(self) -> Float64:
        """The density of each line beyond what is around it, per arrival; of no expectation by chance."""
        power: Float64 = np.abs(self.lines).astype(np.float64) ** 2
        return power / self.arrivals - self.around - self.own

    @property
    def width_ns(self) -> float:
        """About how long a batch lasts, as many evenly spread within a part of the period would."""
        excess = np.maximum(self.excess, 0)
        harmonics = float(excess.sum() ** 2 / max((excess**2).sum(), 1e-300))
        return 0.75 * self.period_ns / max(harmonics, 1.0)

    def dispersion(self, windows_s: Float64, span_s: float) -> Float64:
        """What each line adds to the index of dispersion, float64[windows, harmonics], per unit of `excess`.

        A line of so much is a rate that goes up and down: its variance in a window over the mean count.
        """
        turns = windows_s[:, None] * self.per_s / (2 * np.pi)
        share: Float64 = 2 / span_s * windows_s[:, None] * np.sinc(turns) ** 2
        return share

    def by_sessions(self, place: Int64, session: Int64, bin_ns: int, around: Float64) -> Clock:
        """The clock with its `own` found: arrivals in the bins `place` (int64[n]) by `session` (int64[n]).

        `around`, float64[harmonics], is the density of sessions by themselves near each line. With a random
        sign for each session, what they have in common cancels out, as in `ArrivalCounts`.
        """
        phase = _phases(int(place.max(initial=0)) + 1, bin_ns, self.period_ns, self.parts)[place]
        densities = []
        for nth in range(_SIGNS):
            sign = np.where(uniform(_SIGN_KEY, session, nth) < 0.5, 1.0, -1.0)
            profile = np.bincount(phase, weights=sign, minlength=self.parts)
            densities.append(np.abs(np.fft.rfft(profile)[1 : len(self.lines) + 1]) ** 2 / len(place))
        own = np.mean(densities, axis=0)
        return dataclasses.replace(self, own=np.maximum(own - around, 0))

    def without(self, counts: Float64, bin_ns: int) -> Float64:
        """`counts` (float64[bins]) less the clock: what is left of each line is as much as around it."""
        size = np.abs(self.lines)
        kept = np.maximum(1 - np.sqrt(self.around * self.arrivals) / np.maximum(size, 1e-300), 0)
        spectrum = np.zeros(self.parts // 2 + 1, np.complex128)
        spectrum[1 : len(self.lines) + 1] = self.lines * kept
        profile = np.fft.irfft(spectrum, self.parts) * (self.parts / len(counts))
        left: Float64 = counts - profile[_phases(len(counts), bin_ns, self.period_ns, self.parts)]
        return left


def find_clock(counts: Int64, bin_ns: int, tick_ns: int = 1) -> Clock | None:
    """The clock in `counts` (int64[bins] of `bin_ns`), of the longest period that is sure; None without.

    All instants are whole numbers of `tick_ns`; no period under 16 of them is looked for.
    """
    even, step_ns = _evened(counts, bin_ns, tick_ns)
    seen = _Lines.of(even, step_ns)
    if seen is None:
        return None
    cycles, surely = _surest(seen)
    if surely < SURE:
        return None
    cycles = _longest(seen, _primitive(seen, cycles))
    if cycles > seen.most_cycles:
        return None
    period_ns = _refined_ns(seen, cycles)
    if _by_cycles(seen, period_ns) < SURE_OF_LONGER:
        return None
    # Counts by tick are of instants at the tick, not around the middle of a bin.
    late_ns = step_ns / 2 if step_ns != bin_ns else 0.0
    return _measured(seen, even, late_ns, period_ns, surely)


def _evened(counts: Int64, bin_ns: int, tick_ns: int) -> tuple[Float64, int]:
    """Counts that don't beat with the clock that stamped the trace, float64[bins], and how wide a bin is.

    Some bins hold one tick more than others; that would look like a clock.
    """
    if tick_ns <= bin_ns * _FINE_TICK:
        return counts.astype(np.float64), bin_ns
    first = -(np.arange(len(counts) + 1) * -bin_ns // tick_ns)
    if tick_ns >= bin_ns:
        by_tick = np.bincount(np.maximum(first[1:] - 1, 0), weights=counts)
        return by_tick, tick_ns
    return counts * (bin_ns / tick_ns) / np.diff(first), bin_ns


def _statistic(ratios: Float64) -> tuple[float, int]:
    """H of the ratios of harmonics, and up to which harmonic it is largest."""
    harmonics = np.arange(1, len(ratios) + 1)
    h = 2 * np.cumsum(ratios) - 4 * harmonics + 4
    most = int(h.argmax()) if len(h) else 0
    return (float(h[most]), most + 1) if len(h) else (0.0, 0)


def _primitive(seen: _Lines, cycles: float) -> float:
    """A multiple of the frequency, as long as it has all that there is."""
    for prime in _PRIMES:
        while cycles * prime <= seen.most_cycles and not _has_others(seen, cycles, prime):
            cycles *= prime
    return cycles


def _longest(seen: _Lines, cycles: float) -> float:
    """A part of the frequency, as long as that has more: of each minute and each fifth, five minutes."""
    found = True
    while found:
        found = False
        for prime in _PRIMES:
            while cycles / prime >= FEWEST_CYCLES - 0.5 and _has_others(seen, cycles / prime, prime):
                cycles, found = cycles / prime, True
    return cycles


def _has_others(seen: _Lines, cycles: float, prime: int) -> bool:
    """Whether there are harmonics of the frequency that aren't of its multiple by a prime."""
    nth = np.arange(1, MOST_HARMONICS + 1)
    others = seen.at(np.array([cycles]), nth[nth % prime > 0])[0]
    return _statistic(others)[0] >= SURE_OF_LONGER


def _phases(bins: int, bin_ns: int, period_ns: int, phases: int) -> Int64:
    """The part of the period, of so many, that the middle of each bin lies in, int64[bins]."""
    at_ns = np.arange(bins, dtype=np.int64) * bin_ns + bin_ns // 2
    at_ns %= period_ns
    part: Int64 = np.minimum((at_ns * (phases / period_ns)).astype(np.int64), phases - 1)
    return part


def _folded(counts: npt.NDArray[Any], bin_ns: int, period_ns: int, phases: int) -> Complex128:
    """Σ exp(−2πi m t/P) over the arrivals at t, for m = 1 to phases/4: complex128[phases // 4]."""
    phase = _phases(len(counts), bin_ns, period_ns, phases)
    profile = np.bincount(phase, weights=counts, minlength=phases)
    profile -= np.bincount(phase, minlength=phases) * (counts.sum() / len(counts))
    lines: Complex128 = np.fft.rfft(profile)[1 : phases // 4 + 1]
    return lines


def _parts(period_ns: int, bin_ns: int) -> int:
    """Into how many parts a period is cut: a power of 2, no finer than the bins."""
    return 1 << int(np.clip(np.log2(period_ns / bin_ns), 3, np.log2(_MOST_PARTS)))


def _refined_ns(seen: _Lines, cycles: float) -> int:
    """The period, as near as its harmonics tell; a whole number of minutes, seconds, … where that may be."""
    rough_ns = seen.span_ns / cycles
    parts = _parts(round(rough_ns), seen.step_ns)
    _, harmonics = _statistic(
        seen.at(np.array([cycles]), np.arange(1, min(MOST_HARMONICS, parts // 4) + 1))[0]
    )
    apart = rough_ns / (cycles * harmonics)

    def clear(period_ns: int) -> float:
        lines = np.abs(_folded(seen.counts, seen.step_ns, period_ns, parts)[:harmonics]) ** 2
        return float((lines / seen.usual_at(period_ns, harmonics)).sum() / seen.counts.sum())

    tried = [round(rough_ns + step * apart) for step in np.linspace(-0.6, 0.6, 13)]
    best_ns = max(tried, key=clear)
    best = clear(best_ns)
    for unit_ns in _ROUND_NS:
        round_ns = round(best_ns / unit_ns) * unit_ns
        if round_ns and abs(round_ns - best_ns) < apart and clear(round_ns) >= 0.97 * best - 5:
            return round_ns
    return best_ns


def _by_cycles(seen: _Lines, period_ns: int) -> float:
    """H once more, with each line held against the cycles' own powers: a few large bursts make no clock."""
    phases = min(_parts(period_ns, seen.step_ns), 4 * MOST_HARMONICS)
    phase = _phases(len(seen.counts), seen.step_ns, period_ns, phases)
    cycle = (np.arange(len(phase), dtype=np.int64) * seen.step_ns + seen.step_ns // 2) // period_ns
    whole = int(cycle[-1])
    place = (cycle * phases + phase)[cycle < whole]
    counts = np.bincount(place, weights=seen.counts[: len(place)], minlength=whole * phases)
    each = np.fft.rfft(counts.reshape(whole, phases), axis=1)[:, 1 : phases // 4 + 1]
    ratios = np.abs(each.sum(axis=0)) ** 2 / np.maximum((np.abs(each) ** 2).sum(axis=0), 1e-300)
    return _statistic(ratios)[0]


def _measured(seen: _Lines, counts: Float64, late_ns: float, period_ns: int, surely: float) -> Clock:
    """The clock's lines in all of the counts, `late_ns` too late, up to the highest that tells anything."""
    bin_ns = seen.step_ns // seen.joined
    parts = _parts(period_ns, bin_ns)
    lines = _folded(counts, bin_ns, period_ns, parts)
    arrivals = round(float(counts.sum()))
    around = seen.usual_at(period_ns, len(lines))
    _, upto = _statistic(np.abs(lines) ** 2 / arrivals / around)
    turned = lines[:upto] * np.exp(2j * np.pi * late_ns / period_ns * np.arange(1, upto + 1))
    return Clock(period_ns, turned, around[:upto], np.zeros(upto), parts, arrivals, surely)


@dataclasses.dataclass(frozen=True)
class _Lines:
    """The power at each frequency over what is usual around it: 1 on average, exponential, by chance.

    `ratio` and `usual` float64[frequencies], whole numbers of cycles in the time of `counts`, float64[bins]
    of `step_ns`, `joined` from so many each.
    """

    counts: Float64
    step_ns: int
    joined: int
    ratio: Float64
    usual: Float64

    @staticmethod
    def of(counts: Float64, bin_ns: int) -> _Lines | None:
        """Of counts in bins of `bin_ns`; None where there is too little time to find a clock."""
        joined = max(-(-_COARSE_BIN_NS // bin_ns), -(-len(counts) // _MOST_BINS), 1)
        whole = len(counts) // joined * joined
        coarse = counts[:whole].reshape(-1, joined).sum(axis=1)
        bins = len(coarse)
        if bins < 4 * FEWEST_CYCLES * _FEWEST_BINS_PER_PERIOD:
            return None
        taper = np.hanning(bins)
        tapered = (coarse - coarse.mean()) * taper
        power = np.abs(np.fft.rfft(tapered)) ** 2 / float(coarse.sum() * (taper**2).mean() or 1)
        usual = _usual(power)
        return _Lines(coarse, bin_ns * joined, joined, power / usual, usual)

    def usual_at(self, period_ns: int, harmonics: int) -> Float64:
        """What is usual around each harmonic of a period, float64[harmonics]."""
        place = np.rint(self.span_ns / period_ns * np.arange(1, harmonics + 1)).astype(np.int64)
        usual: Float64 = self.usual[np.minimum(place, len(self.usual) - 1)]
        return usual

    @property
    def most_cycles(self) -> float:
        """The highest frequency of a clock that is looked for, in cycles in the span."""
        return 1.001 * self.span_ns / max(SHORTEST_PERIOD_NS, _FEWEST_BINS_PER_PERIOD * self.step_ns)

    @property
    def span_ns(self) -> int:
        """The time of all counts."""
        return len(self.counts) * self.step_ns

    def at(self, cycles: Float64, harmonics: Int64) -> Float64:
        """The ratio at multiples of frequencies: float64[frequencies…, harmonics], 1 beyond the highest."""
        place = np.rint(np.multiply.outer(cycles, harmonics)).astype(np.int64)
        inside = place < len(self.ratio)
        found: Float64 = np.where(inside, self.ratio[np.where(inside, place, 0)], 1.0)
        return found


def _usual(power: Float64) -> Float64:
    """What is usual around each frequency, float64[frequencies]: by a quantile that lines leave alone."""
    most = len(power) - 1
    spread = np.rint(np.geomspace(1, most, _PLACES)).astype(np.int64)
    grid = np.unique(np.concatenate([spread, np.arange(1, min(most, _SINGLE) + 1)]))
    reach = np.clip(grid // 4, *_REACH)[:, None]
    around = np.rint(reach * np.linspace(-1, 1, _NEIGHBOURS)).astype(np.int64)
    places = np.maximum(np.abs(grid[:, None] + around), 1)
    places = most - np.abs(most - places)  # mirrored at both ends
    level = np.quantile(power[places], _QUANTILE, axis=1) / -np.log1p(-_QUANTILE)
    usual: Float64 = np.exp(np.interp(np.arange(most + 1), grid, np.log(np.maximum(level, 1e-12))))
    return usual


def _surest(seen: _Lines) -> tuple[float, float]:
    """The frequency (cycles in the span) that is surest a clock's, and its H statistic.

    Each of the strongest lines is tried as each harmonic of a frequency, sharpened by ever higher ones.
    """
    peaks = _strongest(seen)
    multiples = np.arange(1, MOST_HARMONICS + 1)
    cycles = (peaks[:, None] / multiples).ravel()
    nth = np.tile(multiples, len(peaks))
    fit = (cycles >= FEWEST_CYCLES - 0.5) & (cycles <= seen.most_cycles)
    cycles, nth = cycles[fit], nth[fit]
    if not len(cycles):
        return 0.0, 0.0
    surest, surely = 0.0, -np.inf
    for level in 2 ** np.arange(int(np.log2(MOST_HARMONICS)) + 1):
        moved = cycles + np.where(nth < level, 1, 0) * np.array([[-1], [0], [1]]) * (_SHARPER / level)
        sums = seen.at(moved, np.arange(1, level + 1)).sum(axis=-1)
        best = sums.argmax(axis=0)
        cycles = moved[best, np.arange(len(cycles))]
        h = 2 * sums.max(axis=0) - 4 * level + 4
        if h.max() > surely:
            surest, surely = float(cycles[h.argmax()]), float(h.max())
    return surest, surely


def _strongest(seen: _Lines) -> Float64:
    """Where the strongest lines are, float64[lines] cycles in the span, between the frequencies too.

    Of a line between two frequencies, a Hann taper gives both the amplitudes that tell where.
    """
    ratio = seen.ratio[: min(len(seen.ratio), round(_HIGHEST_PEAK_PER_NS * seen.span_ns))]
    peaks = np.flatnonzero((ratio[1:-1] >= ratio[:-2]) & (ratio[1:-1] >= ratio[2:])) + 1
    peaks = peaks[peaks >= FEWEST_CYCLES]
    peaks = peaks[np.argsort(ratio[peaks])[-_PEAKS:]]
    size = np.sqrt(seen.ratio * seen.usual)
    before, after = size[peaks - 1], size[peaks + 1]
    part = np.maximum(before, after) / np.maximum(size[peaks], 1e-300)
    found: Float64 = peaks + np.sign(after - before) * np.clip((2 * part - 1) / (part + 1), 0, 0.5)
    return found
