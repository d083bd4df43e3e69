"""What a transformation is laid over: a trace's span and arrivals, and which of its rows are which.

Everything is found when first asked for, so that a plain transformation reads none of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from capture.failures import BadInput
from capture.trace_reader import Segment, Trace, segment_batches
from capture.trace_stream import numbered_batches
from replay.transform.rows import Rows
from replay.transform.selecting import Int32, Mask, Selection, selected, tenants_of
from replay.transform.sessions import among, distinct, number_sessions
from replay.transform.trace_rows import TraceRows
from replay.transform.wall_clock import WallClock

Int64 = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Ground:
    """A trace whose first row is due at zero; or rows in memory, those of `trace` where that is given.

    Without a trace its requests can't be told apart.
    """

    trace: Trace | None = None
    rows: Rows | None = None
    on_rows: Callable[[int], None] = lambda rows: None
    """Told how many rows more were read."""
    _masks: dict[Selection, Mask] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def batches(self, *, numbered: bool = True) -> Iterator[Rows]:
        """All rows, in order, anew each time; `numbered` as `TraceRows.batches` says."""
        if self.rows is not None:
            return iter([self.rows])
        return TraceRows(self._needed()).batches(self.on_rows, numbered=numbered)

    @property
    def count(self) -> int:
        """How many rows there are, about."""
        return len(self.rows) if self.rows is not None else self._needed().rows

    @property
    def tick_ns(self) -> int:
        """The step of the clock that stamped the arrivals, as far as that is known."""
        return 1 if self.trace is None else self.trace.metadata.clock_tick_ns

    @functools.cached_property
    def span_ns(self) -> int:
        """When the last row is due, before all steps."""
        if self.rows is not None:
            return int(self.rows.due_ns.max(initial=0))
        first_ns, last_ns = arrival_ends_ns(self._needed())
        return last_ns - first_ns

    @functools.cached_property
    def clock(self) -> WallClock:
        """When the rows that are due at zero and last arrived; raises `BadInput` where nobody knows."""
        trace = self._needed()
        if not trace.metadata.wall_zero_ns:
            raise BadInput(
                f"{trace.name}: does not say when it was recorded, so times of day are nowhere in it; give "
                "times from its start, such as 10m..15m"
            )
        zero_ns, (_, last_ns) = TraceRows(trace).zero_ns, arrival_ends_ns(trace)
        wall_ns = trace.metadata.wall_zero_ns
        return WallClock(trace.name, wall_ns + zero_ns, wall_ns + max(zero_ns, last_ns))

    def selected(self, selection: Selection) -> Mask:
        """Which rows of the trace are selected, bool[rows]; raises `BadInput` when none is."""
        if selection not in self._masks:
            self._masks[selection] = selected(self._needed(), selection, self.on_rows)
        return self._masks[selection]

    def sessions_with(self, selection: Selection) -> Mask:
        """The rows of sessions with a selected request, bool[rows]."""
        found = self.selected(selection)
        if not self.has_sessions:
            return found
        chosen = distinct(
            numbers[found[first : first + len(numbers)]] for first, numbers in self._session_numbers()
        )
        whole = np.zeros(len(found), np.bool_)
        for first, numbers in self._session_numbers():
            whole[first : first + len(numbers)] = among(chosen, numbers)
        return whole

    @property
    def has_sessions(self) -> bool:
        """Whether requests may belong together; where not, each is a session of its own."""
        return self._needed().has_any("session_id")

    def _session_numbers(self) -> Iterator[tuple[int, Int64]]:
        """The session's number of every row, batch by batch, and the first row of each."""
        for first, batch in numbered_batches(self._needed(), ["session_id"], self.on_rows):
            yield first, number_sessions(batch.column(0), first)

    def tenants(self, header: str) -> Int32:
        """A number per value of a request header (see `tenants_of`)."""
        return tenants_of(self._needed(), header, self.on_rows)

    def _needed(self) -> Trace:
        if self.trace is None:
            raise BadInput("transform: steps for some requests need the trace; none is at hand")
        return self.trace


def arrival_ends_ns(trace: Trace) -> tuple[int, int]:
    """The first and the last arrival of a trace, in ns; reads no more than its files' ends."""
    ends = [_ends_ns(segment) for segment in trace.segments if segment.file.metadata.num_rows]
    return min(first for first, _ in ends), max(last for _, last in ends)


def _ends_ns(segment: Segment) -> tuple[int, int]:
    last_group = segment.file.num_row_groups - 1
    ends = [
        [batch.column(0) for batch in segment_batches(segment, ["arrival_ns"], groups=[group])]
        for group in (0, last_group)
    ]
    # A null is refused where rows are read.
    return int(ends[0][0][0].as_py() or 0), int(ends[1][-1][-1].as_py() or 0)
