"""What is said of a schedule when it was made, gathered piece by piece in bounded memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.arrival_facts import MOST_BUCKETS, RateCurve, bucket_width_s
from replay.transform.schedule_format import Schedule
from replay.transform.shapes.phases import MOST_PHASES

Int64 = npt.NDArray[np.int64]

_SMALLEST: Final = 1 << 16
_STEPS_S: Final = (0.01, 0.1, 1, 5, 60, 3600, 86400)
"""Widths in which due instants are counted; each divides the next, and the wider ones of the rate curve."""


@dataclasses.dataclass(frozen=True)
class ScheduleFacts:
    """Rows, span in ns, rows of each phase (int64[`MOST_PHASES`], by their numbers), rate, and sessions.

    `sessions` is exact up to 65,536; above it is an estimate with a standard error of 0.4 %.
    """

    rows: int
    span_ns: int
    phases: Int64
    sessions: int
    sessions_exact: bool
    rate: RateCurve


class Gathering:
    """Gathers a schedule's facts while its pieces pass through."""

    def __init__(self) -> None:
        self.rows = 0
        """Rows taken in so far."""
        self._span_ns = 0
        self._phases = np.zeros(MOST_PHASES, np.int64)
        self._sessions = SmallestNumbers()
        self._rate = _Counts()

    def passing(self, pieces: Iterable[Schedule]) -> Iterator[Schedule]:
        """The pieces themselves."""
        for piece in pieces:
            self.add(piece)
            yield piece

    def add(self, piece: Schedule) -> None:
        """Take in the next piece, in due order."""
        self.rows += len(piece)
        self._span_ns = max(self._span_ns, piece.span_ns)
        if len(piece) and piece.phase.strides == (0,):  # one value throughout (see `rows.same`)
            self._phases[piece.phase[0]] += len(piece)
        else:
            self._phases += np.bincount(piece.phase, minlength=MOST_PHASES)
        self._sessions.add(piece.session)
        self._rate.add(piece.due_ns)

    def facts(self) -> ScheduleFacts:
        """What was gathered."""
        sessions, exact = self._sessions.count()
        return ScheduleFacts(
            self.rows, self._span_ns, self._phases, sessions, exact, self._rate.curve(self._span_ns)
        )


class SmallestNumbers:
    """How many different session numbers there are, by the k smallest of them.

    Z. Bar-Yossef et al.: Counting distinct elements in a data stream. RANDOM 2002 (the numbers are hashes,
    uniform on 0 … 2⁶³): (k − 1) / the k-th smallest's share of the range, standard error 1/√k.
    """

    def __init__(self, most: int = _SMALLEST) -> None:
        self._most = most
        self._smallest = np.empty(0, np.int64)
        self._new: list[Int64] = []
        self._waiting = 0

    def add(self, numbers: Int64) -> None:
        """Take in session numbers, int64[n], 0 or more."""
        if len(self._smallest) == self._most:
            numbers = numbers[numbers < self._smallest[-1]]
        self._new.append(numbers)
        self._waiting += len(numbers)
        if self._waiting >= self._most:  # few are new in a piece: sorting pays when there are some
            self._settle()

    def _settle(self) -> None:
        # Sorted and compared: twenty times as fast as np.unique, which hashes.
        found = np.sort(np.concatenate((self._smallest, *self._new)))
        first = np.ones(len(found), np.bool_)
        np.not_equal(found[1:], found[:-1], out=first[1:])
        self._smallest = found[first][: self._most]
        self._new, self._waiting = [], 0

    def count(self) -> tuple[int, bool]:
        """The number of different ones, and whether that is exact."""
        self._settle()
        if len(self._smallest) < self._most:
            return len(self._smallest), True
        return round((self._most - 1) * 2.0**63 / float(self._smallest[-1])), False


class _Counts:
    """Counts of events per bucket of time; buckets widen as the span grows, so that there are few."""

    def __init__(self) -> None:
        self._step = 0
        self._counts = np.zeros(1, np.int64)

    def add(self, at_ns: Int64) -> None:
        if not len(at_ns):
            return
        last_ns = int(at_ns[-1])
        while self._step + 1 < len(_STEPS_S) and last_ns // self._width_ns > MOST_BUCKETS * 60:
            self._step += 1
            self._counts = _summed(self._counts, round(_STEPS_S[self._step] / _STEPS_S[self._step - 1]))
        first, last = int(at_ns[0]) // self._width_ns, last_ns // self._width_ns
        if last >= len(self._counts):
            self._counts = np.concatenate((self._counts, np.zeros(last + 1 - len(self._counts), np.int64)))
        # Instants ascend: looking up a few borders beats dividing every instant.
        ends = np.searchsorted(at_ns, np.arange(first + 1, last + 2) * self._width_ns)
        self._counts[first : last + 1] += np.diff(ends, prepend=0)

    @property
    def _width_ns(self) -> int:
        return round(_STEPS_S[self._step] * 1e9)

    def curve(self, span_ns: int) -> RateCurve:
        width_s = bucket_width_s(span_ns / 1e9)
        counts = _summed(self._counts, round(width_s * 1e9 / self._width_ns))
        per_s = np.asarray(counts / width_s, np.float64)
        return RateCurve(width_s, np.arange(len(counts), dtype=np.float64) * width_s, per_s)


def _summed(counts: Int64, buckets: int) -> Int64:
    return np.add.reduceat(counts, np.arange(0, len(counts), buckets))
