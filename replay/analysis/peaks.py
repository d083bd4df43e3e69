"""What each peak did to the service, and how long it took to come back.

The series that is watched is the *time to answer*: TTFT of a stream, E2E of a whole answer, both from due,
infinite for a request that failed; each as a multiple of the base phase's median of its own kind (endpoint,
model, streamed or whole), so that a mix of requests makes one series. Of every window the slow tenth counts
(p90): when more than a tenth fails, it is infinite. What "back" means is in `settling`.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Final

import numpy as np

from replay.analysis.metrics import Latencies
from replay.analysis.phases import (
    BASE,
    InFlight,
    Stretch,
    edges_of,
    merged,
    shed_by_status,
    stretches,
    window_edges_s,
)
from replay.analysis.run_table import Bools, Floats, RunTable
from replay.analysis.settling import FEWEST_WINDOWS, Band, band_of, settle
from replay.analysis.values import Peak

MORE_LOAD: Final = 1.2
"""A phase is a peak when it offers at least a fifth more than base."""

REQUESTS_A_WINDOW: Final = 20
FEWEST_A_WINDOW: Final = 5
MOST_WINDOWS: Final = 1000
SLOW: Final = 0.9

_AFTER: Final = "recover"  # as shapes name the time after them, NAME-recover after one with a name: no peak
_STEPS: Final = (1.0, 2.0, 5.0)


def find_peaks(latencies: Latencies, in_flight: InFlight) -> tuple[Peak, ...]:
    """The run's peaks in the order of time; () where it has no base phase, or nothing above it."""
    run = latencies.run
    pieces = stretches(run)
    base = [piece for piece in pieces if piece.phase == BASE]
    base_s = sum(piece.end_s - piece.start_s for piece in base)
    if base_s <= 0:
        return ()
    base_per_s = int(run.phase.mask(BASE).sum()) / base_s
    found = merged(pieces, _louder(run, pieces, base_per_s))
    if not found:
        return ()
    watch = _Watch.of(latencies, in_flight, base, found, base_per_s)
    ends = [piece.start_s for piece in found[1:]] + [pieces[-1].end_s]
    return tuple(watch.peak(piece, until_s, base_per_s) for piece, until_s in zip(found, ends, strict=True))


def answer_times_ns(latencies: Latencies) -> Floats:
    """The time to answer from due, float64 ns per row: +inf for a failed one, NaN for a recorded hang-up."""
    ttft, e2e = latencies.ttft_ns("due"), latencies.e2e_ns("due")
    shown = np.where(np.isnan(ttft), e2e, ttft)
    return np.where(latencies.run.failed, np.inf, shown)


def window_width_s(base_per_s: float, length_s: float) -> float:
    """The smallest of 1, 2 or 5 × 10^k s that holds 20 requests of base on average, and makes at most 1,000
    windows of the run: of more, some would leave a band by chance.
    """
    least_s = max(REQUESTS_A_WINDOW / base_per_s, length_s / MOST_WINDOWS)
    power = 1e-3
    while True:
        for step in _STEPS:
            if step * power >= least_s * (1 - 1e-9):
                return step * power
        power *= 10.0


def _louder(run: RunTable, pieces: tuple[Stretch, ...], base_per_s: float) -> frozenset[str]:
    names = {piece.phase for piece in pieces if piece.phase != BASE and not piece.phase.endswith(_AFTER)}
    length_s = {name: sum(p.end_s - p.start_s for p in pieces if p.phase == name) for name in names}
    return frozenset(
        name
        for name in names
        if run.phase.mask(name).sum() >= MORE_LOAD * base_per_s * length_s[name] and length_s[name] > 0
    )


@dataclasses.dataclass(frozen=True)
class _Watch:
    """The two series of a run, sorted by due instant, with their bands."""

    run: RunTable
    in_flight: InFlight
    due_s: Floats
    ratio: Floats
    width_s: float
    latency_band: Band | str
    backlog_band: Band | str
    in_flight_before: float

    @classmethod
    def of(
        cls,
        latencies: Latencies,
        in_flight: InFlight,
        base: list[Stretch],
        peaks: list[Stretch],
        base_per_s: float,
    ) -> _Watch:
        run = latencies.run
        width_s = window_width_s(base_per_s, float(run.due_ns.max()) / 1e9)
        # What comes after a peak is what is judged: it says what is usual only where too little came before.
        early = [piece for piece in base if piece.end_s <= peaks[0].start_s]
        enough = sum(len(edges) - 1 for edges in edges_of(early, width_s)) >= FEWEST_WINDOWS
        quiet = edges_of(early if enough else base, width_s)
        usual = run.phase.mask(BASE)
        if enough:
            usual &= run.due_ns < peaks[0].start_s * 1e9
        order = np.argsort(run.due_ns, kind="stable")
        due_s, ratio = run.due_ns[order] / 1e9, _ratios(latencies, usual)[order]
        nothing = np.empty(0)
        slow = np.concatenate([nothing, *(_slow_tenths(due_s, ratio, edges) for edges in quiet)])
        level = np.concatenate([nothing, *(in_flight.means(edges) for edges in quiet)])
        mean = float(level.mean()) if len(level) else float("nan")
        return cls(run, in_flight, due_s, ratio, width_s, band_of(slow), band_of(level, 1.0), mean)

    def peak(self, piece: Stretch, until_s: float, base_per_s: float) -> Peak:
        """What one peak did, and how the service came back until `until_s`."""
        run, start_s, end_s = self.run, piece.start_s, piece.end_s
        during, after = (window_edges_s(*span, self.width_s) for span in ((start_s, end_s), (end_s, until_s)))
        mask = (run.due_ns >= start_s * 1e9) & (run.due_ns < end_s * 1e9)
        most, most_at_s = self.in_flight.largest(start_s, until_s)
        grown = self.in_flight.at(end_s) - self.in_flight.at(start_s)
        return Peak(
            phase=piece.phase,
            start_s=start_s,
            end_s=end_s,
            watched_until_s=until_s,
            scheduled=int(mask.sum()),
            shed=sum(shed_by_status(run, mask).values()),
            failed=int((mask & run.failed).sum()),
            offered_per_s=int(mask.sum()) / (end_s - start_s),
            base_per_s=base_per_s,
            in_flight_before=self.in_flight_before,
            in_flight_max=most,
            in_flight_max_at_s=most_at_s,
            growth_per_s=grown / (end_s - start_s),
            latency=settle(
                _slow_tenths(self.due_s, self.ratio, during),
                _slow_tenths(self.due_s, self.ratio, after),
                *(self.latency_band, start_s, end_s, self.width_s),
            ),
            backlog=settle(
                self.in_flight.means(during),
                self.in_flight.means(after),
                *(self.backlog_band, start_s, end_s, self.width_s),
            ),
        )


def _ratios(latencies: Latencies, base: Bools) -> Floats:
    """The time to answer of each request over its own kind's median in `base`, NaN where that has none."""
    run = latencies.run
    answer = answer_times_ns(latencies)
    kind = (run.endpoint.codes * (len(run.model.names) + 1) + run.model.codes + 1) * 2 + run.stream
    ratio = np.full(len(run), np.nan)
    for code in np.unique(kind):
        of_kind: Bools = kind == code
        usual = answer[of_kind & base & np.isfinite(answer)]
        if len(usual):
            ratio[of_kind] = answer[of_kind] / float(np.median(usual))
    return ratio


def _slow_tenths(due_s: Floats, ratio: Floats, edges_s: Floats) -> Floats:
    """p90 of `ratio` per window (inverse of the empirical distribution); NaN for fewer than 5 requests."""
    found = np.full(max(len(edges_s) - 1, 0), np.nan)
    places = np.searchsorted(due_s, edges_s)
    for window, (first, last) in enumerate(itertools.pairwise(places)):
        inside = ratio[first:last]
        inside = inside[~np.isnan(inside)]
        if len(inside) >= FEWEST_A_WINDOW:
            found[window] = np.quantile(inside, SLOW, method="inverted_cdf")
    return found
