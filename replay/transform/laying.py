"""Shapes laid over rows: requests of the real arrivals cloned and thinned, none invented; and phases put on.

A session's copy c has those of its rows at whose instant the factor is above c + u, with u of the session
(copy 0 too, so that a factor below 1 thins): what a copy has of a session is coherent, and a request due at t
has factor(t) copies on average.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np
import numpy.typing as npt

from replay.transform.draws import uniform
from replay.transform.mixing import TenantLimit, TokenBuckets
from replay.transform.rows import Gate, Rows, Step
from replay.transform.selecting import Int32, Mask
from replay.transform.shapes import Curve
from replay.transform.shapes.phases import Phases
from replay.transform.steps import DEFAULT_JITTER_NS, clones_of

Int64 = npt.NDArray[np.int64]

SLACK: Final = 4
"""Clones are shifted in full where they are so many jitters away from their piece's borders."""


@dataclasses.dataclass(frozen=True)
class Lay(Step):
    """A curve laid over the rows of a trace that `chosen` (bool[trace rows], None for all) has.

    A session's copy is shifted by one draw from ±jitter_ns, at most 1/8 of its piece, and in proportion less
    within four jitters of the piece's borders: so it stays in its piece and its turns in order. What is due
    evenly is so afterwards, but for clones near a border, of which there are up to 2 % too many or too few.
    `copies_before` is the product of the earlier steps' `most_copies`.
    """

    name: str
    curve: Curve
    key: np.uint64
    jitter_ns: int = DEFAULT_JITTER_NS
    copies_before: int = 1
    chosen: Mask | None = None

    @property
    def window_ns(self) -> tuple[int, int]:  # type: ignore[override]
        """The curve's window."""
        return int(self.curve.borders_ns[0]), int(self.curve.borders_ns[-1])

    @property
    def spread_ns(self) -> int:  # type: ignore[override]
        """The jitter, where there are clones."""
        return self.jitter_ns if self.most_copies > 1 else 0

    @property
    def most_copies(self) -> int:  # type: ignore[override]
        """⌈the largest factor⌉, at least the original."""
        return max(1, math.ceil(self.curve.most))

    def apply(self, rows: Rows) -> Rows:
        """The rows with the curve laid over them."""
        piece = self.curve.pieces(rows.due_ns)
        if self.chosen is not None:
            piece = np.where(self.chosen[rows.row], piece, -1)
        inside = np.flatnonzero(piece >= 0)
        factors = self.curve.within(rows.due_ns[inside].astype(np.float64), piece[inside])
        copies = np.ones(len(rows), np.int64)
        copies[inside] = np.ceil((factors - uniform(self.key, rows.session[inside], 0)).clip(min=0))
        laid = [rows.part(0, 0)]
        for nth, cloned, places in clones_of(rows, copies, self.copies_before):
            laid.append(self._moved(cloned, rows.session if places is None else rows.session[places], nth))
        return Rows.joined(laid)

    def _moved(self, cloned: Rows, session: Int64, nth: int) -> Rows:
        """The `nth` clones of rows of these sessions, each shifted by what is drawn for it."""
        if not nth:
            return cloned
        drawn = uniform(self.key, session, nth)
        drawn *= 2
        drawn -= 1
        due_ns = start_ns = self._shifted(cloned.due_ns, drawn)
        if cloned.start_ns is not cloned.due_ns:
            start_ns = np.minimum(self._shifted(cloned.start_ns, drawn), due_ns)
        return dataclasses.replace(cloned, due_ns=due_ns, start_ns=start_ns)

    def _shifted(self, at_ns: Int64, drawn: npt.NDArray[np.float64]) -> Int64:
        """Instants moved by drawn (−1 … 1) jitters in their pieces; ascending in `at_ns` for each draw."""
        borders = self.curve.borders_ns
        piece = self.curve.pieces(at_ns)
        inside = piece >= 0
        low, high = borders[piece], borders[np.minimum(piece + 1, len(borders) - 1)]
        jitter = np.minimum(self.jitter_ns, (high - low) / (2 * SLACK)).clip(min=1e-9)
        room = np.minimum(at_ns - low, high - at_ns) / (SLACK * jitter)
        moved = at_ns + np.rint(drawn * jitter * np.minimum(1.0, room)).astype(np.int64)
        return np.where(inside, moved, at_ns)

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class LabelPhases(Step):
    """Puts every row's phase on it, by its due."""

    phases: Phases

    def apply(self, rows: Rows) -> Rows:
        """The rows with their phases."""
        return dataclasses.replace(rows, phase=self.phases.at(rows.due_ns))


@dataclasses.dataclass(frozen=True)
class Limit(Step):
    """Leaves out what is above the limit of its tenant; `tenants` int32[trace rows], −1 for no tenant."""

    limit: TenantLimit
    tenants: Int32

    def apply(self, rows: Rows) -> Rows:
        """The rows themselves: what passes shows in due order."""
        return rows

    def gate(self) -> Gate:
        """Fresh buckets, all full."""
        buckets = TokenBuckets(self.limit.per_s, self.limit.burst)
        return lambda due_ns, row: buckets.passes(due_ns, self.tenants[row])

    def __str__(self) -> str:
        return str(self.limit)
