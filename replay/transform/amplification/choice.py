"""Which method amplifies a trace, with which shifts, and why: values that the lineage names.

`auto` fits the shifts of clones to the burst curve of f times as many users (`curve_fit`). The index of
dispersion alone doesn't pin the tail; so, where the trace is small enough to try, shifts depend on crowding
as the third moment demands (`crowd_fit`), and the most typical of several draws is taken.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.amplification.clock_fit import fit_clock, within_reach
from replay.transform.amplification.clock_shifts import ClockShifts
from replay.transform.amplification.crowd_fit import CrowdFit, fit_crowds
from replay.transform.amplification.crowd_shifts import CrowdShifts
from replay.transform.amplification.curve_fit import Fit, expected_fit, fit_shifts
from replay.transform.amplification.methods import LateSessions, ShiftedClones
from replay.transform.amplification.shifts import TIED, Shifts
from replay.transform.amplification.spectrum import ArrivalCounts, Spectrum
from replay.transform.burst_curve import WINDOWS_S, dispersion_curve, envelope
from replay.transform.draws import mix
from replay.transform.rows import Rows, session_numbers

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FEWEST_ARRIVALS: Final = 20
"""Fewer say nothing of a rate, and their clones go anywhere."""
SHORTEST_SPAN_NS: Final = 1_000_000_000
FEWEST_TICKS: Final = 200
COARSE_TICK_NS: Final = 100_000_000
MOST_IN_WINDOW: Final = 400_000
"""Amplified rows that may lie within one shift of each other on average, so that they sort in memory."""
DRAWS: Final = 8
MOST_TRIED: Final = 250_000
"""Amplified rows of which several draws are tried."""
MOST_TILTED: Final = 2_000_000
"""Amplified rows up to which the third moment of trials is held against the one wanted."""
_TRIAL_KEYS: Final = (np.uint64(0x8EBC6AF09C88C6E3), np.uint64(0x589965CC75374CC3))


@dataclasses.dataclass(frozen=True)
class Measured:
    """What must be known of the arrivals that are to be amplified, whichever way they were read.

    `span_ns` is the last due instant. `sample` holds due instants and sessions (int64[n] each) of all rows
    where they are few enough to try amplifications of, else None.
    """

    span_ns: int
    arrivals: int
    spectrum: Spectrum | None
    late: LateSessions
    sample: tuple[Int64, Int64] | None
    tick_ns: int = 1


class Measuring:
    """Measures arrivals batch by batch, in bounded memory: the first pass before an amplification."""

    def __init__(
        self,
        span_ns: int,
        expected: int,
        factor: float,
        tick_ns: int = 1,
        *,
        spectrum: bool = True,
        reach_ns: int = 0,
    ) -> None:
        """`span_ns`: no arrival lies beyond; `expected`: about how many there are; `factor`: the plan's.

        Nothing finer than `tick_ns`, the step of the trace's clock, is measured. Without `spectrum`, only
        what every method needs; `reach_ns` is how far clones may be shifted then.
        """
        self._span_ns = span_ns
        self._tick_ns = tick_ns
        self._counts = ArrivalCounts(span_ns, expected, tick_ns) if spectrum else None
        self.arrivals = 0
        self._late_from_ns = span_ns - max(longest_shift_ns(span_ns, expected, factor), reach_ns)
        self._late: list[tuple[Int64, Int64]] = []
        few = spectrum and expected * factor <= MOST_TILTED
        self._kept: list[tuple[Int64, Int64]] | None = [] if few else None

    def add(self, rows: Rows) -> None:
        """Count the rows of a batch, in any order."""
        self.arrivals += len(rows)
        if self._counts is not None:
            alone = rows.start_ns is rows.due_ns
            self._counts.add(rows.due_ns, None if alone else rows.session)
        late = rows.due_ns >= self._late_from_ns
        if late.any():
            self._late.append((rows.due_ns[late], session_numbers(rows)[late]))
        if self._kept is not None:
            self._kept.append((rows.due_ns, session_numbers(rows)))

    def measured(self) -> Measured:
        """What was measured."""
        enough = self.arrivals >= FEWEST_ARRIVALS and self._span_ns >= max(
            SHORTEST_SPAN_NS, FEWEST_TICKS * self._tick_ns
        )
        return Measured(
            span_ns=self._span_ns,
            arrivals=self.arrivals,
            spectrum=self._counts.spectrum() if enough and self._counts is not None else None,
            late=LateSessions.of(*_joined(self._late)),
            sample=None if self._kept is None else _joined(self._kept),
            tick_ns=self._tick_ns,
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """The shifts of clones and the key to draw them by; `reasons` say why, for the lineage."""

    shifts: Shifts | ClockShifts | CrowdShifts
    key: np.uint64
    reasons: tuple[str, ...]
    fit: Fit | None = None

    @property
    def told(self) -> str:
        """All of it, for the lineage."""
        return "; ".join((str(self.shifts), *self.reasons))


def longest_shift_ns(span_ns: int, arrivals: int, factor: float) -> int:
    """The longest shift that may be fitted, ns: the whole time, less where too many rows would wait.

    Clones that move by less keep the slowest swing of the rate, though it be chance.
    """
    per_ns = max(arrivals * factor, 1) / max(span_ns, 1)
    return max(1, min(span_ns, int(MOST_IN_WINDOW / per_ns)))


def choose(measured: Measured, factor: float, key: np.uint64) -> Choice:
    """The shifts for amplifying by `factor` (above 1); a defined result for the smallest of traces, too."""
    if measured.span_ns == 0:
        return Choice(TIED, key, ("auto: all requests are due at one instant",))
    if measured.spectrum is None:
        jitter = Shifts((min(1_000_000_000, max(measured.span_ns // 2, 1)),), (1.0,), uniform=True)
        if measured.arrivals < FEWEST_ARRIVALS:
            jitter = Shifts((measured.span_ns,), (1.0,))
        why = f"auto: {measured.arrivals} requests in {measured.span_ns / 1e9:.3g}s say too little of bursts"
        return Choice(jitter, key, (why,))
    most_ns = longest_shift_ns(measured.span_ns, measured.arrivals, factor)
    fit = fit_clock(measured.spectrum, factor, most_ns) or _fit_without_clock(
        measured, measured.spectrum, factor, most_ns
    )
    tied = dataclasses.replace(expected_fit(measured.spectrum, factor, TIED), target=fit.target)
    reasons = [
        "auto: fitted to the burst curve of that many times the users, expected within "
        f"{max(fit.miss(), 0.001):.1%} (tied clones: {tied.miss():.0%}), that curve known by a "
        f"standard error of {max(fit.unsure(), 0.01):.0%}"
    ]
    if isinstance(fit, CrowdFit):
        reasons.append(
            f"the third moment of counts {fit.away:.2g} standard errors off instead of {fit.away_before:.2g}"
        )
    if most_ns < measured.span_ns:
        reasons.append(f"shifts kept to ±{most_ns / 1e9:.3g}s to sort in memory")
    clock = measured.spectrum.clock
    if clock is not None and not within_reach(clock, most_ns):
        reasons.append(
            f"the clock of {clock.period_ns / 1e9:.4g}s in the traffic is too slow to move clones by"
        )
    if measured.tick_ns >= COARSE_TICK_NS:
        reasons.append(f"nothing finer than the clock's tick of {measured.tick_ns / 1e9:.3g}s was judged")
    if measured.sample is not None and measured.arrivals * factor <= MOST_TRIED:
        key = typical_key(*measured.sample, measured, fit, factor, key)
        reasons.append(f"the most typical of {DRAWS} draws")
    return Choice(fit.shifts, key, tuple(reasons), fit)


def _fit_without_clock(measured: Measured, spectrum: Spectrum, factor: float, most_ns: int) -> Fit:
    """The fit to the burst curve, and to the third moment as far as trials can tell it."""
    fit = fit_shifts(spectrum, factor, most_ns)
    if measured.sample is None:
        return fit
    rows = _bare_rows(*measured.sample)
    keys = _TRIAL_KEYS if len(rows) * factor <= MOST_TRIED else _TRIAL_KEYS[:1]

    def trials(shifts: Shifts | ClockShifts | CrowdShifts) -> list[Int64]:
        steps = (ShiftedClones(factor, key, shifts, measured.span_ns, measured.late) for key in keys)
        return [step.apply(rows).due_ns for step in steps]

    crowds = fit_crowds(spectrum, rows, measured.span_ns, factor, most_ns, fit, trials)
    return fit if crowds is None else crowds


def typical_key(
    due_ns: Int64, session: Int64, measured: Measured, fit: Fit, factor: float, key: np.uint64
) -> np.uint64:
    """Of several keys derived from `key`, the one whose clones come closest to the burst curve and envelope.

    The burst curve's target is the fit's; of the envelope it is the median over the draws.
    """
    rows = _bare_rows(due_ns, session)
    windows_s = [one for one in WINDOWS_S if fit.windows_s[0] <= one <= fit.windows_s[-1]]
    target = fit.target_at(windows_s)
    keys = [key, *(_another(key, nth) for nth in range(1, DRAWS))]
    curves, envelopes = [], []
    for one in keys:
        step = ShiftedClones(factor, one, fit.shifts, measured.span_ns, measured.late)
        amplified = np.sort(step.apply(rows).due_ns)
        curves.append(dispersion_curve(amplified, windows_s) / target)
        envelopes.append(envelope(amplified, WINDOWS_S))
    ratios = np.array(curves)
    ratios[~np.isfinite(ratios)] = 1
    off_curve = np.abs(np.log(np.maximum(ratios, 1e-9))).max(axis=1, initial=0)
    peaks = np.array(envelopes, np.float64)
    off_envelope = np.abs(np.log(peaks / np.median(peaks, axis=0))).max(axis=1)
    return keys[int(np.argmin(off_curve + off_envelope / 2))]


def _bare_rows(due_ns: Int64, session: Int64) -> Rows:
    """Rows of which only instants and sessions matter."""
    _, whose = np.unique(session, return_inverse=True)
    start = np.full(int(whose.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(start, whose, due_ns)
    n = len(due_ns)
    nothing = np.zeros(n, np.int64)
    return Rows(
        due_ns=due_ns,
        row=np.arange(n, dtype=np.int64),
        copy=np.zeros(n, np.int32),
        session=session,
        start_ns=start[whose],
        follows=nothing - 1,
        think_ns=nothing,
        phase=np.zeros(n, np.int8),
    )


def _another(key: np.uint64, nth: int) -> np.uint64:
    return np.uint64(mix(np.array([int(key) ^ nth], np.uint64))[0])


def _joined(pieces: list[tuple[Int64, Int64]]) -> tuple[Int64, Int64]:
    if not pieces:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([piece[0] for piece in pieces]), np.concatenate([piece[1] for piece in pieces])
