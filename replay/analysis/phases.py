"""What each phase of the schedule did: load, answers, requests in flight, shed load, objectives.

A request belongs to the phase that it was due in. How the service came back from a peak is in `peaks`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from replay.analysis.metrics import Latencies
from replay.analysis.run_table import Bools, Floats, Ints, RunTable
from replay.analysis.shed_values import RetryAfter
from replay.analysis.slo import SHED, evaluate, met_all
from replay.analysis.values import Objective, PhaseSummary

BASE: Final = "base"
"""The phase that a schedule's shapes leave as it is: what others are compared with."""


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Requests of one phase that are due in a row: from the first one's instant to the next stretch's."""

    phase: str
    start_s: float
    end_s: float


def stretches(run: RunTable) -> tuple[Stretch, ...]:
    """The run's stretches in the order of time; () for an empty run."""
    if len(run) == 0:
        return ()
    order = np.argsort(run.due_ns, kind="stable")
    codes, due_s = run.phase.codes[order], run.due_ns[order] / 1e9
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    ends = np.append(due_s[starts[1:]], due_s[-1])
    return tuple(
        Stretch(run.phase.names[code], float(start), float(end))
        for code, start, end in zip(codes[starts], due_s[starts], ends, strict=True)
    )


class InFlight:
    """How many requests were on their way, at any instant; one without an end counts nothing."""

    def __init__(self, run: RunTable) -> None:
        known = run.sent & ~np.isnan(run.end_ns)
        instants = np.concatenate([run.sent_ns[known], run.end_ns[known]])
        change = np.repeat([1, -1], int(known.sum()))
        # At one instant ends come first: a connection that is used again was one request, not two.
        order = np.lexsort((change, instants))
        self._at_ns: Floats = instants[order]
        self._count: Ints = np.cumsum(change[order])
        spans = np.diff(self._at_ns, append=self._at_ns[-1:])
        self._area: Floats = np.concatenate([[0.0], np.cumsum(self._count * spans)])

    def at(self, instant_s: float) -> int:
        """How many at an instant."""
        place = int(np.searchsorted(self._at_ns, instant_s * 1e9, side="right"))
        return int(self._count[place - 1]) if place else 0

    def means(self, edges_s: Floats) -> Floats:
        """The mean number between each two of the ascending `edges_s`, float64, one fewer than the edges."""
        edges_ns = edges_s * 1e9
        place = np.searchsorted(self._at_ns, edges_ns, side="right")
        before = np.maximum(place - 1, 0)
        last = self._at_ns[before] if len(self._at_ns) else np.zeros(len(edges_ns))
        count = self._count[before] if len(self._count) else np.zeros(len(edges_ns))
        area = np.where(place > 0, self._area[before] + count * (edges_ns - last), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.diff(area) / np.diff(edges_ns))

    def largest(self, start_s: float, end_s: float) -> tuple[int, float]:
        """The largest number within a time, and its first instant in s."""
        first, last = np.searchsorted(self._at_ns, [start_s * 1e9, end_s * 1e9])
        if first == last:
            return self.at(start_s), start_s
        at_start, place = self.at(start_s), int(first + np.argmax(self._count[first:last]))
        if at_start >= self._count[place]:
            return at_start, start_s
        return int(self._count[place]), float(self._at_ns[place]) / 1e9


def summarise_phases(
    latencies: Latencies, objectives: Sequence[Objective], in_flight: InFlight
) -> tuple[PhaseSummary, ...]:
    """Each phase of the run, in the order of its first request; () where there is one only.

    An objective is held against the requests of the phase alone.
    """
    found = stretches(latencies.run)
    names = tuple(dict.fromkeys(stretch.phase for stretch in found))
    if len(names) < 2:
        return ()
    good = met_all(latencies, objectives)
    return tuple(
        _summarise(
            latencies, objectives, in_flight, good, name, [piece for piece in found if piece.phase == name]
        )
        for name in names
    )


def _summarise(
    latencies: Latencies,
    objectives: Sequence[Objective],
    in_flight: InFlight,
    good: Bools,
    name: str,
    pieces: Sequence[Stretch],
) -> PhaseSummary:
    run = latencies.run
    mask = run.phase.mask(name)
    length_s = sum(piece.end_s - piece.start_s for piece in pieces)
    ended = np.zeros(len(run), dtype=np.bool_)
    for piece in pieces:
        ended |= latencies.ok & (run.end_ns >= piece.start_s * 1e9) & (run.end_ns < piece.end_s * 1e9)
    means = [float(in_flight.means(np.array([p.start_s, p.end_s]))[0]) for p in pieces if p.end_s > p.start_s]
    lengths = [p.end_s - p.start_s for p in pieces if p.end_s > p.start_s]
    return PhaseSummary(
        phase=name,
        length_s=length_s,
        scheduled=int(mask.sum()),
        ok=int((mask & latencies.ok).sum()),
        failed=int((mask & run.failed).sum()),
        shed=shed_by_status(run, mask),
        retry_after=retry_after(run, mask),
        offered_per_s=_per_s(int(mask.sum()), length_s),
        answered_per_s=_per_s(int(ended.sum()), length_s),
        in_flight_mean=float(np.average(means, weights=lengths)) if means else float("nan"),
        in_flight_max=max(in_flight.largest(piece.start_s, piece.end_s)[0] for piece in pieces),
        goodput_per_s=_per_s(int((mask & good).sum()), length_s) if objectives else float("nan"),
        objectives=tuple(
            result for result in evaluate(latencies, objectives, within=mask) if result.requests
        ),
    )


def shed_by_status(run: RunTable, mask: Bools) -> dict[int, int]:
    """How many of the rows in `mask` (bool per row) were turned away, by status; statuses that occur only."""
    counts = {status: int((mask & (run.status == status)).sum()) for status in SHED}
    return {status: count for status, count in counts.items() if count}


def retry_after(run: RunTable, mask: Bools) -> RetryAfter | None:
    """When those of the rows in `mask` that were turned away were asked to come back; None where none was.

    p50 is the value that half of them did not exceed (inverse of the empirical distribution).
    """
    asked_s = run.retry_after_s[mask & np.isin(run.status, SHED)]
    asked_s = asked_s[~np.isnan(asked_s)]
    if not len(asked_s):
        return None
    middle_s = np.quantile(asked_s, 0.5, method="inverted_cdf")
    return RetryAfter(len(asked_s), float(middle_s), float(asked_s.max()))


def merged(found: Sequence[Stretch], phases: frozenset[str]) -> list[Stretch]:
    """The stretches of `phases`, those that touch each other as one that names them all."""
    merged: list[Stretch] = []
    for index, piece in enumerate(found):
        if piece.phase not in phases:
            continue
        if merged and index and found[index - 1].phase in phases:
            last = merged.pop()
            names = dict.fromkeys([*last.phase.split(", "), piece.phase])
            merged.append(Stretch(", ".join(names), last.start_s, piece.end_s))
        else:
            merged.append(piece)
    return merged


def edges_of(pieces: Sequence[Stretch], width_s: float) -> list[Floats]:
    """Per stretch the edges of the whole windows of `width_s` that fit into it, float64 s."""
    edges = [window_edges_s(piece.start_s, piece.end_s, width_s) for piece in pieces]
    return [found for found in edges if len(found) > 1]


def window_edges_s(start_s: float, end_s: float, width_s: float) -> Floats:
    """The edges of the whole windows of `width_s` from `start_s` on, float64 s; one edge where none fits."""
    whole = int((end_s - start_s) / width_s + 1e-9)
    return np.asarray(start_s + width_s * np.arange(whole + 1), dtype=np.float64)


def _per_s(count: int, length_s: float) -> float:
    return count / length_s if length_s > 0 else float("nan")
