"""Light columns of a trace of any size, in arrival order, in bounded memory: nothing is held per row.

Rows come in the numbering of `Trace` (see `trace_reader`), which holds 8 bytes per row for random access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from capture.trace_reader import (
    Segment,
    Trace,
    check_ascending,
    checked,
    segment_batches,
    valid_arrivals,
)

Int64 = npt.NDArray[np.int64]

STREAM_ROWS: Final = 1 << 18
_HEAVY: Final = frozenset(("request_headers", "request_body", "response_headers", "response_body"))
_HEAVY_ROWS: Final = 1000


def untold(rows: int) -> None:
    """Tells nobody how far it is."""


def stream_batches(
    trace: Trace, columns: Sequence[str], batch_rows: int = STREAM_ROWS
) -> Iterator[pa.RecordBatch]:
    """The columns of all rows in arrival order, batches of some `batch_rows` rows, fewer with heavy columns.

    Equal instants keep the order of the files. Raises `BadInput` for what is damaged, out of order, or no
    value of a trace.
    """
    names = list(columns)
    if _HEAVY.intersection(names):
        batch_rows = min(batch_rows, _HEAVY_ROWS)
    read = names if "arrival_ns" in names else ["arrival_ns", *names]
    readings = [_Reading(place, segment, read, batch_rows) for place, segment in enumerate(trace.segments)]
    if len(readings) == 1:
        for batch in readings[0].batches:
            yield batch if names == read else batch.select(names)
        return
    for table in _merge(readings):
        yield from table.select(names).combine_chunks().to_batches(max_chunksize=batch_rows)


def numbered_batches(
    trace: Trace, columns: Sequence[str], on_rows: Callable[[int], None] = untold
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """`stream_batches`, each with its first row's number; `on_rows` is told how many rows more were read."""
    first = 0
    for batch in stream_batches(trace, columns, STREAM_ROWS):
        yield first, batch
        first += batch.num_rows
        on_rows(batch.num_rows)


class _Reading:
    """One segment being read: what was read of it and not yet given out."""

    def __init__(self, place: int, segment: Segment, names: list[str], batch_rows: int) -> None:
        self.batches = _sound(segment, names, batch_rows)
        self._held: pa.Table | None = None
        self._arrivals = np.empty(0, np.int64)
        self.done = False
        self.place = place
        self.starts_ns = _first_arrival(segment)

    def read_on(self) -> None:
        """Hold one batch more, or be done."""
        batch = next(self.batches, None)
        if batch is None:
            self.done = True
            return
        table = pa.Table.from_batches([batch])
        self._held = table if self._held is None else pa.concat_tables([self._held, table])
        self._arrivals = np.concatenate((self._arrivals, batch.column("arrival_ns").to_numpy()))

    @property
    def held(self) -> int:
        """Rows held."""
        return len(self._arrivals)

    @property
    def last_ns(self) -> int:
        """The last arrival that is held."""
        return int(self._arrivals[-1])

    def give(self, before_ns: int | None) -> tuple[pa.Table, Int64] | None:
        """What is held and arrived before an instant (None: all), and when; it is held no longer."""
        count = self.held if before_ns is None else int(np.searchsorted(self._arrivals, before_ns))
        if not count or self._held is None:
            return None
        given, arrivals = self._held.slice(0, count), self._arrivals[:count]
        self._held, self._arrivals = self._held.slice(count), self._arrivals[count:]
        return given, arrivals


def _merge(waiting: list[_Reading]) -> Iterator[pa.Table]:
    """Tables of all segments' rows in arrival order; segments that don't overlap are read one by one."""
    waiting = sorted(waiting, key=lambda reading: reading.starts_ns)
    active: list[_Reading] = []
    while waiting or active:
        if not active:
            active.append(waiting.pop(0))
        for reading in active:
            if not reading.done and not reading.held:
                reading.read_on()
        active = [reading for reading in active if reading.held or not reading.done]
        ends = [reading.last_ns for reading in active if not reading.done and reading.held]
        if active and waiting and waiting[0].starts_ns <= min(ends, default=max(r.last_ns for r in active)):
            active.append(waiting.pop(0))
            active.sort(key=lambda reading: reading.place)  # of equal instants, the first file's first
            continue
        if len(active) == 1:
            given = active[0].give(None)
            if given is not None:
                yield given[0]
            continue
        horizon_ns = min(ends, default=None)
        given_now = [piece for reading in active if (piece := reading.give(horizon_ns)) is not None]
        if given_now:
            arrivals = np.concatenate([piece[1] for piece in given_now])
            table = pa.concat_tables([piece[0] for piece in given_now])
            yield table.take(pa.array(np.argsort(arrivals, kind="stable")))
        for reading in active:
            if not reading.done and reading.held and reading.last_ns == horizon_ns:
                reading.read_on()


def _sound(segment: Segment, names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    first, previous_ns = 0, np.zeros(1, np.int64)
    for batch in segment_batches(segment, names, batch_rows):
        arrivals = valid_arrivals(batch.column("arrival_ns"), segment, first)
        if len(arrivals) and arrivals[0] < previous_ns[0]:  # at the border of batches
            check_ascending(np.concatenate((previous_ns, arrivals)), segment, first - 1)
        check_ascending(arrivals, segment, first)
        yield checked(batch, segment, first)
        first += batch.num_rows
        previous_ns = arrivals[-1:] if len(arrivals) else previous_ns


def _first_arrival(segment: Segment) -> int:
    for batch in segment_batches(segment, ["arrival_ns"], 1):
        if batch.num_rows and batch.column(0)[0].is_valid:
            return int(batch.column(0)[0].as_py())
        break
    return 0
