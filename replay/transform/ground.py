"""What a transformation is laid over: a trace's span and arrivals, and which of its rows are which.

Everything is found when first asked for, so that a plain transformation reads no more than arrivals.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.trace_reader import Trace
from replay.transform.rows import Rows
from replay.transform.selecting import Int32, Mask, Selection, selected, tenants_of
from replay.transform.sessions import number_sessions

Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Ground:
    """A trace of which the rows are due at arrival − `zero_ns`, the last of them at `span_ns`.

    `trace` is None for rows that come from none: they can't be told apart then.
    """

    span_ns: int
    zero_ns: int = 0
    trace: Trace | None = None
    rows: Rows | None = None

    @classmethod
    def of(cls, rows: Rows, trace: Trace | None = None) -> Ground:
        """The ground of a whole trace's rows."""
        zero_ns = 0
        if trace is not None and len(rows):
            zero_ns = int(trace.arrival_ns[rows.row[0]] - rows.due_ns[0])
        return cls(int(rows.due_ns.max(initial=0)), zero_ns, trace, rows)

    @functools.cached_property
    def due_ns(self) -> Int64:
        """When each row of the trace is due, before all steps, int64[rows]."""
        if self.trace is not None:
            return self.trace.arrival_ns - self.zero_ns
        if self.rows is None:
            raise TypeError("a ground without a trace needs rows")
        due_ns = np.full(int(self.rows.row.max(initial=-1)) + 1, -1, np.int64)
        due_ns[self.rows.row] = self.rows.due_ns
        return due_ns

    def selected(self, selection: Selection) -> Mask:
        """Which rows of the trace are selected, bool[rows]; raises `BadInput` when none is."""
        return selected(self._needed(), selection)

    def sessions_with(self, selection: Selection) -> Mask:
        """The rows of sessions with a selected request, bool[rows]."""
        trace = self._needed()
        mine = selected(trace, selection)
        sessions = number_sessions(trace.column("session_id"))
        return np.isin(sessions, np.unique(sessions[mine]))

    def tenants(self, header: str) -> Int32:
        """A number per value of a request header (see `tenants_of`)."""
        return tenants_of(self._needed(), header)

    def _needed(self) -> Trace:
        if self.trace is None:
            raise BadInput("transform: steps for some requests need the trace; none is at hand")
        return self.trace
